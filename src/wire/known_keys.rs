//! The order of a request's keys, learned: a key that comes where it came before is compared, and its meaning known.
//!
//! One client writes the keys of its requests in one order. Why going by it is sound: as long as every key so far came in
//! the known order, byte for byte, the next one that does so too is the key that it was then. It is none of those before
//! it, as it wasn't then, and it means what it meant. At the first key that doesn't come as expected, reading goes on as
//! if all keys so far had been read one by one: which the object has had is noted either way.
//!
//! What is kept is the keys, of an object with few of them, none of them long.

use std::cell::Cell;

use super::error::Result;
use super::fields::Fields;
use super::json::{Keys, MAX_KNOWN_KEYS, QuotedKey, Reader};
use super::shape::Trials;

/// How many orders a thread keeps.
const ORDERS: usize = 4;

/// What a thread knows of objects whose keys have meanings `M`.
pub(super) struct Orders<M> {
    known: Vec<Order<M>>,
    /// The one that came last.
    last: usize,
    /// The one that makes room for the next.
    oldest: usize,
    trials: Trials,
}

struct Order<M> {
    /// Whose keys these are.
    fields: Fields,
    keys: Vec<(QuotedKey, M)>,
}

/// How an object's keys are read.
enum Way<M> {
    /// All so far came in the order at this place.
    Along(usize),
    /// The keys so far, in an order that is to be known.
    Learning(Vec<(QuotedKey, M)>),
    /// One by one.
    Reading,
}

impl<M> Way<M> {
    /// After this key, too. An order without one of its keys can't be learned.
    fn with(self, key: &str, means: M) -> Self {
        let Self::Learning(mut keys) = self else {
            return self;
        };
        match QuotedKey::new(key) {
            Some(key) if keys.len() < MAX_KNOWN_KEYS => {
                keys.push((key, means));
                Self::Learning(keys)
            }
            _ => Self::Reading,
        }
    }
}

impl<M: Copy + 'static> Orders<M> {
    pub(super) const fn new() -> Self {
        Self {
            known: Vec::new(),
            last: 0,
            oldest: 0,
            trials: Trials::new(),
        }
    }

    /// Lends what this thread knows.
    pub(super) fn lend<T>(
        kept: &'static std::thread::LocalKey<Cell<Self>>,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        // Taken rather than borrowed: a reader inside of a reader, or a thread that ends, gets a fresh one.
        let mut orders = kept.try_with(Cell::take).unwrap_or_default();
        let read = read(&mut orders);
        let _ = kept.try_with(|kept| kept.set(orders));
        read
    }

    /// Reads an object: `meaning` says what a key means that isn't known yet, and `member` must read or skip each value.
    pub(super) fn object<'a>(
        &mut self,
        r: &mut Reader<'a, '_>,
        fields: Fields,
        mut meaning: impl FnMut(&Reader<'a, '_>, &str) -> Result<M>,
        mut member: impl FnMut(&mut Reader<'a, '_>, M) -> Result<()>,
    ) -> Result<()> {
        let Some(mut keys) = r.open_object()? else {
            return Ok(());
        };
        let mut way = Way::Along(self.last);
        let mut count = 0;
        loop {
            let known = match way {
                Way::Along(at) => self.along(r, &mut keys, fields, at, count),
                Way::Learning(_) | Way::Reading => None,
            };
            let means = if let Some((at, means)) = known {
                way = Way::Along(at);
                means
            } else {
                if let Way::Along(at) = way {
                    way = self.leave(fields, at, count);
                }
                let key = r.next_key(&mut keys)?;
                let means = meaning(r, &key)?;
                way = way.with(&key, means);
                means
            };
            count += 1;
            member(r, means)?;
            if !r.more_members(&keys)? {
                break;
            }
        }
        match way {
            Way::Along(at) => {
                self.last = at;
                self.trials.fitted();
            }
            Way::Learning(keys) => self.keep(Order { fields, keys }),
            Way::Reading => {}
        }
        Ok(())
    }

    /// The way on from a key that doesn't come as in the order at `at`, after so many that did.
    #[inline(never)]
    fn leave(&mut self, fields: Fields, at: usize, count: usize) -> Way<M> {
        if !self.trials.may_learn() {
            return Way::Reading;
        }
        let order = self.known.get(at).filter(|order| is(order.fields, fields));
        let before = order.and_then(|order| order.keys.get(..count));
        Way::Learning(before.unwrap_or_default().to_vec())
    }

    /// Reads the next key if it comes as it does in the order at `at`, or in another one that begins with the same keys.
    #[inline]
    fn along<'a>(
        &self,
        r: &mut Reader<'a, '_>,
        keys: &mut Keys<'a>,
        fields: Fields,
        at: usize,
        count: usize,
    ) -> Option<(usize, M)> {
        let order = self.known.get(at);
        if let Some(order) = order
            && is(order.fields, fields)
            && let Some((key, means)) = order.keys.get(count)
            && r.known_key(keys, key)
        {
            return Some((at, *means));
        }
        let before = order.and_then(|order| order.keys.get(..count));
        let before = before.unwrap_or_default();
        self.known.iter().enumerate().find_map(|(other, order)| {
            let same = other != at
                && before.len() == count
                && is(order.fields, fields)
                && order.keys.get(..count).is_some_and(|keys| {
                    let mut pairs = keys.iter().zip(before);
                    pairs.all(|((key, _), (known, _))| key == known)
                });
            let (key, means) = order.keys.get(count).filter(|_| same)?;
            r.known_key(keys, key).then_some((other, *means))
        })
    }

    fn keep(&mut self, order: Order<M>) {
        let at = self.oldest;
        match self.known.get_mut(at) {
            Some(oldest) => *oldest = order,
            None => self.known.push(order),
        }
        self.oldest = (at + 1) % ORDERS;
        self.last = at;
    }
}

impl<M: Copy + 'static> Default for Orders<M> {
    fn default() -> Self {
        Self::new()
    }
}

/// A table of meanings is known by its place: where the compiler made two of one, an order is learned twice.
fn is(fields: Fields, others: Fields) -> bool {
    std::ptr::eq(fields, others)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fields;
    use super::super::json::Scratch;
    use super::super::request::read;
    use super::super::shape::reference;
    use super::*;

    /// What a body says to a thread that has read these before; without any, to the slow reader.
    fn read_after(known: &[String], body: &str) -> String {
        std::thread::scope(|threads| {
            let reader = threads.spawn(|| {
                reference::want(known.is_empty());
                for known in known {
                    let _ = read(known.as_bytes(), fields::CHAT, &mut Scratch::default());
                }
                let read = read(body.as_bytes(), fields::CHAT, &mut Scratch::default());
                format!("{read:?}")
            });
            reader.join().unwrap()
        })
    }

    /// Keys with values that can follow any of them, two of them with the same place among the marked ones or none.
    const KEYS: [&str; 14] = [
        r#""model":"#,
        r#""messages":"#,
        r#""tools":"#,
        r#""stream":"#,
        r#""n":"#,
        r#""user":"#,
        r#""conversation":"#,
        r#""Model":"#,
        r#""m\u006fdel":"#,
        r#""model" :"#,
        r#" "user":"#,
        r#""unknown":"#,
        r#""":"#,
        r#""max_tokens":"#,
    ];

    fn body(members: &[(usize, usize)]) -> String {
        const VALUES: [&str; 7] = ["null", "\"o3\"", "[]", "true", "1", "{}", "]"];
        let members: Vec<String> = members
            .iter()
            .map(|(key, value)| KEYS[*key].to_owned() + VALUES[*value])
            .collect();
        format!("{{{}}}", members.join(","))
    }

    #[test]
    fn a_key_that_comes_again_is_refused_wherever_it_comes() {
        let known = r#"{"model":"o3","messages":[],"stream":true,"user":"x"}"#.to_owned();
        for (body, says) in [
            (r#"{"model":"o3","messages":[],"model":"o4"}"#, "twice"),
            (r#"{"model":"o3","messages":[],"m\u006fdel":"o4"}"#, "twice"),
            (
                r#"{"model":"o3","messages":[],"stream":true,"user":"x","user":"y"}"#,
                "twice",
            ),
            (
                r#"{"model":"o3","messages":[],"n":1,"stream":true,"messages":[]}"#,
                "twice",
            ),
            (
                r#"{"messages":[],"model":"o3","stream":true}"#,
                r#"model: Some("o3")"#,
            ),
            (
                r#"{"model":"o3","messages":[],"stream":true,"user":"x","n":3}"#,
                "choices: Some(3)",
            ),
            (r#"{"model":"o3"}"#, r#"model: Some("o3")"#),
            (r#"{"model":"o3",}"#, "a key was expected"),
        ] {
            let read = read_after(std::slice::from_ref(&known), body);
            assert!(read.contains(says), "{body}: {read}");
            assert_eq!(read, read_after(&[], body));
        }
    }

    #[test]
    fn keys_longer_than_documented_ones_are_not_kept() {
        for (length, kept) in [(64, 1), (65, 0), (100_000, 0)] {
            let body = format!(r#"{{"model":0,"{}":0}}"#, "k".repeat(length));
            let mut scratch = Scratch::default();
            let mut reader = Reader::new(body.as_bytes(), &mut scratch).unwrap();
            let mut orders = Orders::new();
            let read = orders.object(
                &mut reader,
                fields::CHAT,
                |_, _| Ok(()),
                |reader, ()| reader.skip(),
            );
            read.unwrap();
            assert_eq!(orders.known.len(), kept, "{length}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn keys_in_any_order_say_what_the_slow_reader_says(
            known in prop::collection::vec(prop::collection::vec((0..KEYS.len(), 0_usize..6), 0..6), 0..8),
            from in any::<prop::sample::Index>(),
            cut in 0_usize..6,
            rest in prop::collection::vec((0..KEYS.len(), 0_usize..7), 0..5),
        ) {
            // As a known one begins, and then otherwise.
            let mut members = known.get(from.index(known.len().max(1))).cloned().unwrap_or_default();
            members.truncate(cut);
            members.extend(rest);
            let known: Vec<String> = known.iter().map(|members| body(members)).collect();
            let body = body(&members);
            prop_assert_eq!(read_after(&known, &body), read_after(&[], &body), "{}", body);
        }
    }
}
