//! The policy file as it is written: its keys and their kinds, before any rule is checked.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};

use super::{
    PolicyError,
    locate::{self, Format},
};
use crate::record;

/// A policy as written in `policy.toml` or `policy.json` (docs/policy.md). Unknown and repeated keys are errors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    /// The pinned roots, by the name the user gave them.
    #[serde(default, deserialize_with = "unique", skip_serializing_if = "BTreeMap::is_empty")]
    pub root: BTreeMap<String, RootTable>,
    /// Which references they speak for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<ScopeTable>,
    /// Which names are other names of something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remap: Vec<RemapTable>,
    /// Scopes to use instead of `scope`, by the profile's name.
    #[serde(default, deserialize_with = "unique", skip_serializing_if = "BTreeMap::is_empty")]
    pub profile: BTreeMap<String, ProfileTable>,
}

/// `[root.NAME]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootTable {
    /// The root document; a relative path starts at the policy file's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The root document itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<String>,
    /// sha256 of it, 64 hex digits.
    pub sha256: String,
    /// Where its metadata is fetched.
    pub repository: Places,
    /// The file of the floor; a relative path starts at the policy file's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<PathBuf>,
}

/// One place, or several in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Places(pub Vec<String>);

/// `[[scope]]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ScopeTable {
    /// `HOST/SCOPE`, for example `registry.example.com/acme/**`.
    #[serde(rename = "match")]
    pub pattern: String,
    /// What happens without asking anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// Why the action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What `allow-digest` allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digests: Option<Vec<String>>,
    /// Until when `allow-digest` allows it, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// What becomes of a name that is freshly proven absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_absent: Option<OnAbsent>,
    /// Which digests a reference by digest may name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest_refs: Option<DigestRefs>,
    /// How old the deciding role's signature may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_signed_age: Option<String>,
    /// For how long after its expiry the timestamp and snapshot may still be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_staleness: Option<String>,
    /// Roots whose failure is a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<Vec<String>>,
    /// Roots whose revocations count; else all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub veto: Option<Vec<String>>,
    /// Who must vouch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<RequireTable>,
    /// Who may vouch instead for what is freshly proven absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<RequireTable>,
    /// Which versions are allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<ConstraintTable>,
    /// What the names of the match are called inside a root.
    #[serde(default, deserialize_with = "unique", skip_serializing_if = "BTreeMap::is_empty")]
    pub map: BTreeMap<String, String>,
    /// Which role, and which keys, must have decided.
    #[serde(default, deserialize_with = "unique", skip_serializing_if = "BTreeMap::is_empty")]
    pub pin: BTreeMap<String, PinTable>,
}

/// What happens without asking anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is refused.
    Deny,
    /// The listed digests are allowed.
    AllowDigest,
}

/// What becomes of a name that is freshly proven absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnAbsent {
    /// It is refused, the default.
    Reject,
    /// `fallback` decides.
    Fallback,
}

/// Which digests a reference by digest may name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DigestRefs {
    /// Those that some tag means now, or an index that one means holds.
    #[default]
    Current,
    /// Those that are signed, also where no tag means them any more.
    Retained,
}

/// `require` and `fallback`: exactly one form.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequireTable {
    /// All of these roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<Vec<String>>,
    /// One of these roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any: Option<Vec<String>>,
    /// So many of the roots `of`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<u64>,
    /// The roots that `threshold` counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Vec<String>>,
}

/// `constraint`: exactly one key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ConstraintTable {
    /// What the tag must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// What the signed `custom.version` must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_version: Option<String>,
}

/// One root's entry of `pin`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinTable {
    /// The role that must lie on the path.
    pub role: String,
    /// Keys that must each have signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<String>>,
}

/// `[[remap]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemapTable {
    /// The host, or host and first path segments, that stand for others.
    pub from: String,
    /// What they stand for.
    pub to: String,
}

/// `[profile.NAME]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileTable {
    /// Its scopes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<ScopeTable>,
}

impl PolicyFile {
    /// Reads `policy.toml`. Checks the shape only.
    ///
    /// # Errors
    /// [`PolicyError`] with its position.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        record::toml(text).map_err(|error| {
            let at = error.span().map(|span| locate::position(text, span.start));
            PolicyError::shape(at, error.message())
        })
    }

    /// Reads `policy.json`. Checks the shape only.
    ///
    /// # Errors
    /// [`PolicyError`] with its position.
    pub fn from_json(text: &str) -> Result<Self, PolicyError> {
        record::json(text.as_bytes()).map_err(|error| {
            let at = locate::json_error(text, &error);
            let message = error.to_string();
            // The place is told once.
            let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
            PolicyError::shape(Some(at), message)
        })
    }

    /// Reads a policy in one of its two formats. Checks the shape only.
    ///
    /// # Errors
    /// [`PolicyError`] with its position.
    pub fn read(text: &str, format: Format) -> Result<Self, PolicyError> {
        match format {
            Format::Toml => Self::from_toml(text),
            Format::Json => Self::from_json(text),
        }
    }

    /// The policy as TOML.
    ///
    /// # Panics
    /// Never: tables of strings always serialise.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("tables of strings always serialise")
    }

    /// The policy as JSON, ending in a line feed.
    ///
    /// # Panics
    /// Never: objects of strings always serialise.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("objects of strings always serialise") + "\n"
    }
}

impl<'de> Deserialize<'de> for Places {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Places;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a place as text, or a list of places")
            }

            fn visit_str<E>(self, place: &str) -> Result<Places, E> {
                Ok(Places(vec![place.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Places, A::Error> {
                let mut places = Vec::new();
                while let Some(place) = list.next_element()? {
                    places.push(place);
                }
                Ok(Places(places))
            }
        }
        deserializer.deserialize_any(OneOrMore)
    }
}

impl Serialize for Places {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [place] => place.serialize(serializer),
            places => places.serialize(serializer),
        }
    }
}

/// A map in which no key stands twice. TOML refuses that itself; of JSON the last one would win.
fn unique<'de, D, T>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Unique<T>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Unique<T> {
        type Value = BTreeMap<String, T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some(key) = entries.next_key::<String>()? {
                if map.contains_key(&key) {
                    return Err(A::Error::custom(format_args!("duplicate key `{key}`")));
                }
                map.insert(key, entries.next_value()?);
            }
            Ok(map)
        }
    }
    deserializer.deserialize_map(Unique(std::marker::PhantomData))
}
