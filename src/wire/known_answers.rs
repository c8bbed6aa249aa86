//! Whole answers by their learned shape: the facts of the slow reader, without reading JSON again.
//!
//! One provider's answers differ in their ids, in their text and in a few numbers, and reading what is the same in all
//! of them is most of the work. Why reading by a [shape](super::shape) is sound is said there; here the whole document has
//! to be of the shape, to its last byte. A name of a tool, an index of a choice or a type is looked at, and so never in a
//! hole.
//!
//! What is kept is the answer without the contents of its holes: keys, those of arguments that are objects among them,
//! names of tools, words such as `assistant`; no text and no id.

use std::cell::Cell;

use super::answer::{self, AnswerFacts, DocumentFacts, Usage};
use super::error::Result;
use super::fast::whole_number;
use super::json::{Reader, Scratch};
use super::shape::{Filling, Holes, Patience, Shape, Tokens, Trials};

/// How many shapes a thread keeps: text and the calls of a few tools, of one provider or two.
const SHAPES: usize = 8;

/// The APIs whose answers are read in different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    Chat,
    Other,
}

/// The answers that a thread knows, the last that came first.
#[derive(Debug, Default)]
struct Answers {
    known: Vec<Known>,
    holes: Holes,
    trials: Trials,
}

#[derive(Debug)]
struct Known {
    api: Api,
    shape: Shape,
    /// What the last answer of this shape said.
    facts: DocumentFacts,
    /// Bytes of generated text outside of the holes.
    text: u64,
}

thread_local! {
    static KNOWN: Cell<Option<Box<Answers>>> = const { Cell::new(None) };
}

/// Reads a whole answer and passes on what it says.
///
/// # Errors
/// To `take`, as [`answer::read_chat`] and [`answer::read_any`] have them.
pub(crate) fn read<T>(
    document: &[u8],
    api: Api,
    take: impl FnOnce(Result<&DocumentFacts>) -> T,
) -> T {
    // Taken rather than borrowed: whoever takes the facts may tell somebody who makes a call of his own.
    let kept = KNOWN.try_with(Cell::take).ok().flatten();
    let mut answers = kept.unwrap_or_default();
    let taken = match answers.find(document, api) {
        Some(facts) => take(Ok(facts)),
        None => match answers.learn(document, api) {
            Ok(facts) => take(Ok(&facts)),
            Err(error) => take(Err(error)),
        },
    };
    let _ = KNOWN.try_with(|known| known.set(Some(answers)));
    taken
}

impl Answers {
    fn find(&mut self, document: &[u8], api: Api) -> Option<&DocumentFacts> {
        let mut patience = Patience::new();
        let likely = match self.trials.are_in_vain() {
            true => 1,
            false => SHAPES,
        };
        let mut known = self.known.iter_mut().take(likely);
        let at = known.position(|known| known.api == api && known.is(document, &mut patience))?;
        self.trials.fitted();
        // The usual one is looked at first.
        self.known.get_mut(..=at)?.rotate_right(1);
        self.known.first().map(|known| &known.facts)
    }

    /// Reads an answer, and remembers its shape.
    fn learn(&mut self, document: &[u8], api: Api) -> Result<DocumentFacts> {
        let learns = self.trials.may_learn();
        let mut facts = AnswerFacts::default();
        Scratch::lend(|scratch| {
            let mut reader = Reader::new(document, scratch)?;
            if learns {
                reader.start_noting(std::mem::take(&mut self.holes));
            }
            let read = match api {
                Api::Chat => answer::chat(&mut reader, &mut facts),
                Api::Other => answer::any(&mut reader, &mut facts),
            };
            if learns {
                self.holes = reader.stop_noting();
            }
            read
        })?;
        let facts = DocumentFacts::from(facts);
        if learns && let Some(known) = Known::new(document, api, &facts, &self.holes) {
            self.known.truncate(SHAPES - 1);
            self.known.insert(0, known);
        }
        Ok(facts)
    }
}

impl Known {
    fn new(document: &[u8], api: Api, facts: &DocumentFacts, holes: &Holes) -> Option<Self> {
        let mut filled = Filled::default();
        let shape = Shape::of(document, 0, holes, |filling, contents| {
            filled.take(filling, contents)
        })?;
        Some(Self {
            api,
            shape,
            text: facts.text.checked_sub(filled.text)?,
            facts: DocumentFacts {
                calls: facts.calls.clone(),
                ..*facts
            },
        })
    }

    /// Whether an answer is this one but for its holes; if so, what it says is in `facts`.
    fn is(&mut self, document: &[u8], patience: &mut Patience) -> bool {
        let mut filled = Filled::default();
        let length = self.shape.fill(document, patience, |filling, contents| {
            filled.take(filling, contents)
        });
        match length {
            None => return false,
            Some(length) if length < document.len() => {
                patience.lose(length);
                return false;
            }
            Some(_) => {}
        }
        self.facts.text = self.text.saturating_add(filled.text);
        self.facts.usage = self.facts.usage.map(|_| filled.usage);
        true
    }
}

/// What an answer's holes say.
#[derive(Debug, Default)]
struct Filled {
    text: u64,
    usage: Usage,
}

impl Filled {
    #[inline]
    fn take(&mut self, filling: Filling, contents: &[u8]) -> Option<()> {
        match filling {
            Filling::String | Filling::Number => {}
            // A name decides.
            Filling::Name => return None,
            Filling::SomeText if contents.is_empty() => return None,
            Filling::Text | Filling::SomeText => {
                self.text = self.text.saturating_add(contents.len() as u64);
            }
            Filling::Tokens(tokens) => {
                let (number, length) = whole_number(contents)?;
                if length != contents.len() {
                    return None;
                }
                let count = match tokens {
                    Tokens::Input => &mut self.usage.input,
                    Tokens::Output => &mut self.usage.output,
                    Tokens::Total => &mut self.usage.total,
                };
                *count = (*count).max(Some(number));
            }
        }
        Some(())
    }
}

#[cfg(fuzzing)]
pub(super) fn forget() {
    KNOWN.take();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::shape::reference;
    use super::*;

    /// What a document says to a thread that has read these before; without any, to the slow reader.
    fn read_after(known: &[&[u8]], document: &[u8], api: Api) -> String {
        std::thread::scope(|threads| {
            let reader = threads.spawn(|| {
                reference::want(known.is_empty());
                for known in known {
                    read(known, api, |_| ());
                }
                read(document, api, |read| format!("{read:?}"))
            });
            reader.join().unwrap()
        })
    }

    fn shapes_after(documents: &[String]) -> usize {
        std::thread::scope(|threads| {
            let reader = threads.spawn(|| {
                for document in documents {
                    read(document.as_bytes(), Api::Chat, |_| ());
                }
                KNOWN.take().unwrap().known.len()
            });
            reader.join().unwrap()
        })
    }

    fn completion(id: &str, text: &str, tokens: &str) -> String {
        format!(
            r#"{{"id":"{id}","created":1760000000,"model":"gpt-4o-mini","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":9,"completion_tokens":12,"total_tokens":{tokens},"prompt_tokens_details":{{"cached_tokens":0}}}}}}"#
        )
    }

    fn call(id: &str, name: &str, arguments: &str) -> String {
        format!(
            r#"{{"id":"chatcmpl-1","choices":[{{"index":0,"message":{{"role":"assistant","content":null,"tool_calls":[{{"id":"{id}","type":"function","function":{{"name":"{name}","arguments":"{arguments}"}}}}]}}}}],"usage":{{"total_tokens":21}}}}"#
        )
    }

    fn response(call_id: &str, name: &str, arguments: &str, text: &str) -> String {
        format!(
            r#"{{"id":"resp_1","created_at":1760000000.5,"output":[{{"type":"message","id":"msg_1","content":[{{"type":"output_text","text":"{text}"}}]}},{{"type":"function_call","id":"fc_1","call_id":"{call_id}","name":"{name}","arguments":"{arguments}"}}],"usage":{{"input_tokens":3,"output_tokens":4,"total_tokens":7}}}}"#
        )
    }

    #[test]
    fn what_differs_from_call_to_call_is_no_other_shape() {
        let text = [
            completion("chatcmpl-1", "Hello", "21"),
            completion(
                "chatcmpl-22",
                r#"Gr\u00fc\u00dfe, \"you\" \ud83d\ude00 \u4f60"#,
                "1048576",
            ),
            completion("", "", "0"),
            completion("ü", "Grüße, 你好", "21"),
        ];
        assert_eq!(shapes_after(&text), 1);
        let calls = [
            call("call_1", "web_search", r#"{\"query\":\"rivers\"}"#),
            call("call_2", "web_search", "{}"),
        ];
        assert_eq!(shapes_after(&calls), 1);
        for (documents, api) in [(&text[..], Api::Chat), (&calls[..], Api::Chat)] {
            for document in documents {
                let known = read_after(&[documents[0].as_bytes()], document.as_bytes(), api);
                assert_eq!(known, read_after(&[], document.as_bytes(), api));
            }
        }
        let facts = read_after(&[calls[0].as_bytes()], calls[1].as_bytes(), Api::Chat);
        assert!(facts.contains(r#"name: "web_search""#), "{facts}");
        assert!(facts.contains("text: 2,"), "{facts}");
    }

    #[test]
    fn a_name_an_index_and_empty_arguments_are_another_shape() {
        assert_eq!(
            shapes_after(&[
                call("call_1", "web_search", "{}"),
                call("call_1", "file_delete", "{}"),
                call("call_1", "web_search", ""),
                call("call_1", "web_search", "{}").replace(r#""index":0"#, r#""index":1"#),
            ]),
            4
        );
        let (with, without) = (
            response("call_1", "a", "{}", "x"),
            response("call_1", "a", "", "x").replace("function_call", "brand_new"),
        );
        for (known, document) in [(&with, &without), (&without, &with)] {
            assert_eq!(
                read_after(&[known.as_bytes()], document.as_bytes(), Api::Other),
                read_after(&[], document.as_bytes(), Api::Other)
            );
        }
        // Without arguments nobody acts on a name in an item of an unknown type; with some it is a call.
        let acted = without.replace(r#""arguments":"""#, r#""arguments":"x""#);
        let facts = read_after(&[without.as_bytes()], acted.as_bytes(), Api::Other);
        assert!(facts.contains(r#"name: "a""#), "{facts}");
    }

    #[test]
    fn usage_that_can_not_be_used_is_no_shape() {
        for tokens in ["-1", "1.5", "1e3", "9007199254740991"] {
            let document = completion("a", "b", tokens);
            assert_eq!(shapes_after(&[document]), 0, "{tokens}");
        }
    }

    #[test]
    fn no_text_and_no_id_is_kept() {
        std::thread::scope(|threads| {
            let reader = threads.spawn(|| {
                let document = call("call_secret1", "web_search", r#"{\"key\":\"secret2\"}"#)
                    .replace("chatcmpl-1", "secret3");
                read(document.as_bytes(), Api::Chat, |_| ());
                let document = response("secret4", "a", "secret5", "secret6");
                read(document.as_bytes(), Api::Other, |_| ());
                let known = KNOWN.take().unwrap().known;
                known
                    .iter()
                    .map(|known| known.shape.literals() + &format!("{:?}", known.facts))
                    .collect::<Vec<_>>()
            });
            let known = reader.join().unwrap();
            assert_eq!(known.len(), 2);
            assert!(!known.concat().contains("secret"), "{known:?}");
        });
    }

    #[test]
    fn a_thread_keeps_a_few_shapes_and_learns_seldom_in_vain() {
        let many: Vec<String> = (0..200)
            .map(|number| call("a", &format!("tool_{number}"), "{}"))
            .collect();
        assert_eq!(shapes_after(&many), SHAPES);
        let large = format!(r#"{{"choices":[],"list":[{}true]}}"#, "true,".repeat(2_000));
        let holes = format!(r#"{{"choices":[],"list":[{}0]}}"#, "0,".repeat(100));
        assert_eq!(shapes_after(&[large, holes]), 0);
    }

    #[test]
    fn whoever_takes_the_facts_may_read_another_answer() {
        let (outer, inner) = (completion("a", "b", "3"), call("a", "web_search", "{}"));
        for _ in 0..3 {
            let both = read(outer.as_bytes(), Api::Chat, |outer| {
                let inner = read(inner.as_bytes(), Api::Chat, |inner| {
                    inner.unwrap().calls.len()
                });
                (outer.unwrap().calls.len(), inner)
            });
            assert_eq!(both, (0, 1));
        }
    }

    #[test]
    fn whatever_byte_differs_it_says_what_the_slow_reader_says() {
        for (document, api) in [
            (completion("chatcmpl-1", "Hel\\n lo", "21"), Api::Chat),
            (call("call_1", "web_search", r#"{\"a\":1}"#), Api::Chat),
            (response("call_1", "a", "{}", "x"), Api::Other),
        ] {
            for at in 0..document.len() {
                for other in [
                    "", "x", "9", "\"", "\\", "\\u0078", "}", "]", ",", " ", "\n", "é",
                ] {
                    let mut changed = document.clone();
                    changed.replace_range(at..=at, other);
                    assert_eq!(
                        read_after(&[document.as_bytes()], changed.as_bytes(), api),
                        read_after(&[], changed.as_bytes(), api),
                        "{changed}"
                    );
                }
            }
        }
    }

    /// JSON made of what answers are made of, and of what they aren't.
    fn pieces() -> impl Strategy<Value = String> {
        let key = prop::sample::select(vec![
            "id",
            "choices",
            "index",
            "message",
            "delta",
            "content",
            "tool_calls",
            "function",
            "function_call",
            "name",
            "arguments",
            "type",
            "usage",
            "total_tokens",
            "prompt_tokens",
            "input_tokens",
            "output",
            "call_id",
            "data",
            "error",
            "x_groq",
            "custom",
            "text",
            "item",
            "other",
            "Usage",
            "input",
        ]);
        let scalar = prop::sample::select(vec![
            "null",
            "true",
            "0",
            "1",
            "12",
            "1.5",
            "-3",
            "1e5",
            "\"\"",
            "\"a\"",
            "\"function_call\"",
            "\"web_search\"",
            "\"\\u0061\"",
            "\"é\"",
            "\"a\\\"b\"",
            "9007199254740993",
        ]);
        let leaf = scalar.prop_map(str::to_owned);
        leaf.prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3)
                    .prop_map(|items| format!("[{}]", items.join(","))),
                prop::collection::btree_map(key.clone(), inner, 0..5).prop_map(|members| {
                    let members = members
                        .iter()
                        .map(|(key, value)| format!("\"{key}\":{value}"));
                    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn documents_with_other_scalars_say_what_the_slow_reader_says(
            document in pieces(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4),
            chat in any::<bool>(),
        ) {
            const SCALARS: [&str; 12] = [
                "null", "7", "\"\"", "\"b\"", "\"function_call\"", "1.5", "15", "\"\\u0062\"", "\"ü\"", "-1", "\"x\\\\\"",
                "100000000000000000000",
            ];
            let api = if chat { Api::Chat } else { Api::Other };
            // Scalars begin after a colon, a comma or a bracket.
            let mut changed = document.clone();
            for (place, scalar) in changes {
                let starts: Vec<usize> = changed
                    .match_indices([':', '[', ','])
                    .map(|(at, _)| at + 1)
                    .filter(|at| !matches!(changed.as_bytes()[*at], b'{' | b'[' | b']'))
                    .collect();
                if starts.is_empty() {
                    break;
                }
                let start = starts[place.index(starts.len())];
                let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b':');
                let length = changed.as_bytes()[start..].iter().position(ends).unwrap_or(0);
                changed.replace_range(start..start + length, SCALARS[scalar.index(SCALARS.len())]);
            }
            prop_assert_eq!(
                read_after(&[document.as_bytes()], changed.as_bytes(), api),
                read_after(&[], changed.as_bytes(), api)
            );
        }
    }
}
