//! Signed policies: an envelope as Sekuire writes it, verified against keys that the caller pins.
//!
//! The key that comes in the envelope proves nothing, as whoever replaces the content can replace it too. And the
//! signature covers less than the envelope: the policy's id, its version and the hash of its content. Workspace and
//! status are compared, but who can change the file can change them.

use std::collections::BTreeMap;
use std::path::Path;

use ed25519_dalek::{Signature, VerifyingKey};

use super::canonical::canonical;
use super::compile::Rules;
use super::document::{self, Format, Node, Value};
use super::error::{Draft, PolicyError, shown};
use super::identity::hash;
use super::loader::read;
use super::reader::{Field, Reader};
use super::{Notice, Policy, PolicyLoader};

/// Whose policies are loaded: a workspace, its signing keys, and the oldest version that still counts.
///
/// Given to [`PolicyLoader::trust`], it refuses every policy that isn't signed by one of the keys. Take a key for each
/// workspace: the workspace's name isn't signed, so that a policy of another one under the same key could be given
/// this name. [`policy`](Self::policy) closes that too, as the policy's id is signed.
///
/// ```
/// use tower_sekuire::Trust;
///
/// let trust = Trust::new("ws_1")
///     .key("key_1", "6240377d826c36c087404e4187dc21ecdbdc4db84e209fc386ac5d48bd08679e")?
///     .policy("policy_abc123")
///     .minimum_version(3);
/// # Ok::<(), tower_sekuire::PolicyError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Trust {
    workspace: String,
    policy: Option<String>,
    keys: BTreeMap<String, VerifyingKey>,
    minimum_version: u64,
    allow_unsigned: bool,
}

impl Trust {
    /// Policies of this workspace, by no key yet.
    #[must_use]
    pub fn new(workspace: impl Into<String>) -> Self {
        Self {
            workspace: workspace.into(),
            policy: None,
            keys: BTreeMap::new(),
            minimum_version: 0,
            allow_unsigned: false,
        }
    }

    /// Reads a file such as this one, in YAML or JSON:
    ///
    /// ```yaml
    /// workspace: ws_1
    /// keys:
    ///   key_1: "6240377d826c36c087404e4187dc21ecdbdc4db84e209fc386ac5d48bd08679e"
    /// policy: policy_abc123      # optional: this policy and no other
    /// minimum_version: 3         # optional: nothing older
    /// allow_unsigned: false      # optional
    /// ```
    ///
    /// # Errors
    /// When the file can't be read, or holds anything that isn't understood; the error lists every problem.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, PolicyError> {
        let path = path.as_ref();
        Self::from_yaml(&read(path)?).map_err(|error| error.in_file(path))
    }

    /// As [`from_path`](Self::from_path), of text.
    ///
    /// # Errors
    /// When it holds anything that isn't understood.
    pub fn from_yaml(text: &str) -> Result<Self, PolicyError> {
        let refused = |problems| PolicyError::new(problems, text, Format::Yaml);
        let root = document::parse(text, Format::Yaml).map_err(|draft| refused(vec![draft]))?;
        let mut reader = Reader::default();
        let trust = trust(&mut reader, &Field::root(&root));
        if reader.problems.is_empty() {
            Ok(trust)
        } else {
            Err(refused(reader.problems))
        }
    }

    /// Adds a key under the id that envelopes name it by (`signing_key_id`): an Ed25519 public key, as 64 hexadecimal
    /// digits.
    ///
    /// # Errors
    /// When it is no such key, or the id has one already.
    pub fn key(mut self, id: impl Into<String>, public_key: &str) -> Result<Self, PolicyError> {
        let id = id.into();
        let refused = |message: &str, help: &str| {
            let path = format!("keys.{}", shown(&id));
            PolicyError::of(Draft::new(path, message, help))
        };
        if self.keys.contains_key(&id) {
            return Err(refused("given twice", "give each key an id of its own"));
        }
        let key = verifying_key(public_key).ok_or_else(|| refused(NO_KEY, COPY_KEY))?;
        self.keys.insert(id, key);
        Ok(self)
    }

    /// Only the policy of this id.
    #[must_use]
    pub fn policy(mut self, id: impl Into<String>) -> Self {
        self.policy = Some(id.into());
        self
    }

    /// No version below this one. Without, every version ever signed loads.
    #[must_use]
    pub fn minimum_version(mut self, version: u64) -> Self {
        self.minimum_version = version;
        self
    }

    /// Only what may replace this policy: the same policy in the same version or a later one. Use it to load a policy
    /// again while a program runs, so that an old one can't be played back. A policy that came in no envelope changes
    /// nothing.
    #[must_use]
    pub fn after(self, policy: &Policy) -> Self {
        match policy.envelope() {
            Some(envelope) => self
                .policy(envelope.policy_id())
                .minimum_version(envelope.version()),
            None => self,
        }
    }

    /// Whether a policy without signature loads too. Off by default. A signature that is there is verified anyway.
    #[must_use]
    pub fn allow_unsigned(mut self, allow: bool) -> Self {
        self.allow_unsigned = allow;
        self
    }

    /// Verifies a document; `None` for one without envelope, where that is allowed.
    pub(super) fn verify(&self, root: &Node) -> Result<Option<Envelope>, Vec<Draft>> {
        let root = Field::root(root);
        let mut reader = Reader::default();
        let Some(content) = root.below("content") else {
            if !self.allow_unsigned {
                reader.document_problem("the policy is not signed".to_owned(), UNSIGNED);
                return Err(reader.problems);
            }
            return Ok(None);
        };
        let fields = reader.mapping(&root).unwrap_or_default();
        let envelope = self.envelope(&mut reader, &root, &fields, &content);
        match envelope {
            Some(envelope) if reader.problems.is_empty() => Ok(Some(envelope)),
            _ => Err(reader.problems),
        }
    }

    /// Reports every field that isn't as it must be; the envelope is worth something only if none was.
    fn envelope(
        &self,
        reader: &mut Reader,
        root: &Field<'_>,
        fields: &[Field<'_>],
        content: &Field<'_>,
    ) -> Option<Envelope> {
        let present = |key: &str| {
            let field = fields.iter().find(|field| field.key == key)?;
            (!matches!(field.node.value, Value::Null)).then_some(field)
        };
        let mut required = |key: &str| {
            let Some(field) = present(key) else {
                reader.problem(root, format!("the envelope has no `{key}`"), WHOLE);
                return None;
            };
            Some((field, reader.entry(field)?))
        };
        let policy_id = required("policy_id");
        let workspace = required("workspace_id");
        let version = required("version");
        let status = required("status");
        let stated = required("hash");

        let mut must_be = |field: Option<(&Field<'_>, &str)>, due: &str, help: &str| {
            if let Some((field, found)) = field.filter(|(_, found)| *found != due) {
                reader.problem(
                    field,
                    format!("is `{}`, not `{}`", shown(found), shown(due)),
                    help,
                );
            }
        };
        must_be(
            workspace,
            &self.workspace,
            "load a policy of the trusted workspace, or trust this one (`workspace` of the trust file)",
        );
        must_be(
            status,
            "active",
            "load the version that is active, or activate this one",
        );
        if let Some(due) = &self.policy {
            must_be(
                policy_id,
                due,
                "load the trusted policy, or trust this one (`policy` of the trust file)",
            );
        }
        let version = version.and_then(|(field, text)| self.version(reader, field, text));
        let hash = match canonical(content.node, &content.path) {
            Ok(text) => hash(&text),
            Err(draft) => {
                reader.problems.push(draft);
                return None;
            }
        };
        if let Some((field, _)) = stated.filter(|(_, stated)| *stated != hash) {
            reader.problem(field, "is not the hash of the content", CHANGED);
        }
        let (policy_id, version) = (policy_id?.1, version?);
        // INVARIANT: neither version nor hash has a colon, so no two envelopes have the same message.
        let message = format!("{policy_id}:{version}:{hash}");
        let key = match present("signature") {
            Some(signature) => {
                let named = [present("signing_key_id"), present("signing_public_key")];
                self.signed(reader, &message, signature, named)
            }
            None => {
                if !self.allow_unsigned {
                    reader.problem(root, "the policy is not signed", UNSIGNED);
                }
                None
            }
        };
        Some(Envelope {
            policy_id: policy_id.to_owned(),
            workspace_id: self.workspace.clone(),
            version,
            signing_key_id: key,
        })
    }

    fn version(&self, reader: &mut Reader, field: &Field<'_>, text: &str) -> Option<u64> {
        let version = text
            .parse()
            .ok()
            .filter(|version: &u64| version.to_string() == text);
        match version {
            None => {
                let message = format!("must be a whole number as text, not `{}`", shown(text));
                reader.problem(
                    field,
                    message,
                    "write digits alone, in quotes, as in `\"3\"`",
                );
            }
            Some(version) if version < self.minimum_version => {
                let message = format!("is {version}, older than {}", self.minimum_version);
                reader.problem(
                    field,
                    message,
                    "a version that was replaced doesn't come back",
                );
            }
            Some(_) => {}
        }
        version
    }

    /// The id of the key that signed the message.
    fn signed(
        &self,
        reader: &mut Reader,
        message: &str,
        signature: &Field<'_>,
        [key_id, public_key]: [Option<&Field<'_>>; 2],
    ) -> Option<String> {
        let Some(key_id) = key_id else {
            let help = "name the key that signed, by the id under which it is trusted";
            reader.problem(signature, "stands without a `signing_key_id`", help);
            return None;
        };
        let id = reader.entry(key_id)?;
        let Some(key) = self.keys.get(id) else {
            let known: Vec<_> = self
                .keys
                .keys()
                .map(|id| format!("`{}`", shown(id)))
                .collect();
            let help = format!("trusted: {}", known.join(", "));
            let message = format!("`{}` is no trusted key", shown(id));
            let none = "trust the key that signed (`keys` of the trust file)";
            reader.problem(key_id, message, if known.is_empty() { none } else { &help });
            return None;
        };
        if let Some(field) = public_key
            && verifying_key(reader.text(field)?).as_ref() != Some(key)
        {
            let message = format!("is another key than the one trusted as `{}`", shown(id));
            let help = "fetch the policy again, or trust that key if it is meant";
            reader.problem(field, message, help);
        }
        let Some(bytes) = unhex(reader.text(signature)?) else {
            reader.problem(signature, NO_SIGNATURE, WHOLE);
            return None;
        };
        let verified = key.verify_strict(message.as_bytes(), &Signature::from_bytes(&bytes));
        if verified.is_err() {
            let message = format!("does not verify with the key `{}`", shown(id));
            reader.problem(signature, message, CHANGED);
        }
        Some(id.to_owned())
    }
}

fn trust(reader: &mut Reader, root: &Field<'_>) -> Trust {
    let mut trust = Trust::new("");
    let mut named = false;
    for entry in reader.mapping(root).unwrap_or_default() {
        match entry.key {
            "workspace" => {
                named = true;
                reader
                    .entry(&entry)
                    .unwrap_or_default()
                    .clone_into(&mut trust.workspace);
            }
            "policy" => trust.policy = reader.entry(&entry).map(str::to_owned),
            "minimum_version" => trust.minimum_version = reader.count(&entry).unwrap_or_default(),
            "allow_unsigned" => trust.allow_unsigned = reader.bool(&entry).unwrap_or_default(),
            "keys" => {
                for key in reader.mapping(&entry).unwrap_or_default() {
                    let Some(text) = reader.text(&key) else {
                        continue;
                    };
                    match verifying_key(text) {
                        Some(public) => {
                            trust.keys.insert(key.key.to_owned(), public);
                        }
                        None => reader.problem(&key, NO_KEY, COPY_KEY),
                    }
                }
            }
            _ => reader.unknown(&entry, TRUST),
        }
    }
    if !named {
        reader.document_problem("has no `workspace`".to_owned(), "write the workspace's id");
    }
    if trust.keys.is_empty() && !trust.allow_unsigned && reader.problems.is_empty() {
        reader.document_problem(
            "trusts no key".to_owned(),
            "write at least one under `keys`",
        );
    }
    trust
}

/// What is known of the envelope that a policy came in, once a [`Trust`] has verified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    policy_id: String,
    workspace_id: String,
    version: u64,
    signing_key_id: Option<String>,
}

impl Envelope {
    /// The policy's id, the same in all of its versions.
    #[must_use]
    pub fn policy_id(&self) -> &str {
        &self.policy_id
    }

    /// The workspace that it says it is of. Not covered by the signature.
    #[must_use]
    pub fn workspace_id(&self) -> &str {
        &self.workspace_id
    }

    /// The version, which rises with each change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The id of the key that signed it, or `None` for one without signature.
    #[must_use]
    pub fn signing_key_id(&self) -> Option<&str> {
        self.signing_key_id.as_deref()
    }
}

impl Policy {
    /// The envelope that the policy came in, if [`PolicyLoader::trust`] had it verified.
    #[must_use]
    pub fn envelope(&self) -> Option<&Envelope> {
        self.inner.envelope.as_ref()
    }
}

impl PolicyLoader {
    /// Loads only what is signed by somebody trusted. Without, an envelope's signature is not looked at, and
    /// [`Policy::unenforced`] says so.
    ///
    /// The signature covers the rules, not a `tools.json` beside them.
    ///
    /// ```
    /// use tower_sekuire::{Policy, Trust};
    ///
    /// let error = Policy::loader()
    ///     .trust(Trust::new("ws_1"))
    ///     .from_yaml("models: {allowed_models: [gpt-4o]}")
    ///     .unwrap_err();
    /// assert_eq!(error.problems()[0].message(), "the policy is not signed");
    /// ```
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = Some(trust);
        self
    }
}

impl Rules {
    /// Takes back what was noted of an envelope that nobody had verified.
    pub(super) fn verified(&mut self, envelope: Option<Envelope>) {
        const VERIFIED: &[&str] = &[
            "policy_id",
            "workspace_id",
            "version",
            "status",
            "hash",
            "signature",
            "signing_key_id",
            "signing_public_key",
        ];
        let inner = &mut self.inner;
        if envelope.is_some() {
            let verified = |notice: &Notice| VERIFIED.contains(&notice.path());
            inner.unenforced.retain(|notice| !verified(notice));
        }
        let signed_by = envelope.as_ref().and_then(Envelope::signing_key_id);
        if signed_by.is_none() {
            let notice = Notice::new("signature", "the policy is not signed");
            inner.warnings.push(notice);
        }
        inner.envelope = envelope;
    }

    /// A signature covers the policy, and not the files beside it that say what some of it means.
    pub(super) fn warn_of_unsigned_files(&mut self) {
        let envelope = self.inner.envelope.as_ref();
        if envelope.and_then(Envelope::signing_key_id).is_none() {
            return;
        }
        let of_category = self
            .tool_entries()
            .find(|(_, entry)| entry.category().is_some());
        let tools = of_category.map(|(spot, entry)| {
            spot.notice(format!(
                "`{entry}` means the tools that `{}` says, which is not signed: list the tools by name, or let nobody \
                 change that file who may not change the policy",
                shown(self.tools_file())
            ))
        });
        let id = self.unsigned_id.take();
        self.inner.warnings.extend(tools.into_iter().chain(id));
    }
}

fn verifying_key(hex: &str) -> Option<VerifyingKey> {
    let key = VerifyingKey::from_bytes(&unhex(hex)?).ok()?;
    (!key.is_weak()).then_some(key)
}

/// Bytes written as hexadecimal digits, of exactly the length due.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| match *pair {
        [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
    bytes?.try_into().ok()
}

const TRUST: &[&str] = &[
    "workspace",
    "keys",
    "policy",
    "minimum_version",
    "allow_unsigned",
];

const NO_KEY: &str = "must be an Ed25519 public key, as 64 hexadecimal digits";

const COPY_KEY: &str = "copy the workspace's public key, in quotes, without prefix or spaces";

const WHOLE: &str = "load the envelope whole, as Sekuire wrote it";

const NO_SIGNATURE: &str = "must be an Ed25519 signature, as 128 hexadecimal digits";

const CHANGED: &str = "the policy was changed after it was signed, or signed by somebody else";

const UNSIGNED: &str = "load a signed one, or allow unsigned ones knowingly (`allow_unsigned`)";
