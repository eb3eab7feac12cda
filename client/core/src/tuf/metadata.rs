//! The documents (TUF 1.0.34, section 4), typed, with what they do not know preserved.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use chrono::{DateTime, NaiveDateTime, Utc};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned};

use super::{
    Error, Key, KeyId, PublicKey,
    object::{Extra, Json, object},
};
use crate::oci::Digest;

/// What we author as `spec_version`. Read: any `1.x`.
pub const SPEC_VERSION: &str = "1.0.34";

/// What the four role types have in common.
pub trait RoleType: Serialize + DeserializeOwned + Clone + fmt::Debug {
    /// The value of `_type`.
    const TYPE: &'static str;
    /// The members that all roles have.
    fn common(&self) -> &Common;
    /// The same, to change them when authoring.
    fn common_mut(&mut self) -> &mut Common;
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// A text that says what is wrong.
    fn check(&self) -> Result<(), String>;
}

/// `object!` for a role type: its own members, and those that all roles have.
macro_rules! role {
    ($type:ident { $($field:ident: $name:literal $need:ident),* }) => {
        object!($type {
            role_type: "_type" needed, spec_version: "spec_version" needed, version: "version" needed,
            expires: "expires" needed, identity: "x-plimsoll" optional, $($field: $name $need),*
        } extra => {
            let Time(expires) = expires;
            let common = Common { role_type, spec_version, version, expires, identity };
            $type { common, $($field,)* extra }
        });
    };
}

/// The members that every role has (4.3 to 4.6).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Common {
    /// The role's type.
    #[serde(rename = "_type")]
    pub role_type: String,
    /// `1.` and more.
    pub spec_version: String,
    /// From 1.
    pub version: u64,
    /// UTC, whole seconds.
    #[serde(serialize_with = "expires::serialize")]
    pub expires: DateTime<Utc>,
    /// Which trust repository this belongs to, and what else we add.
    #[serde(rename = "x-plimsoll", skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
}

impl Common {
    /// The members of a document that we author.
    pub fn new(role_type: &str, version: u64, expires: DateTime<Utc>, identity: Identity) -> Self {
        Self {
            role_type: role_type.to_owned(),
            spec_version: SPEC_VERSION.to_owned(),
            version,
            expires,
            identity: Some(identity),
        }
    }
}

/// 128 random bits in hex that name a trust repository for ever (docs/oci-mapping.md, "x-plimsoll").
pub type TrustId = String;

/// What we add to every document: `signed.x-plimsoll`. Stock clients skip it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Identity {
    /// The trust repository.
    pub trust: TrustId,
    /// When it was signed, UTC.
    #[serde(serialize_with = "expires::serialize")]
    pub at: DateTime<Utc>,
    /// Root only: the scopes that the trust repository may speak about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<String>,
    /// The view, if the document is not of the whole repository. Our client asks for none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub view: Option<String>,
    /// Targets roles only: what must not be run any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub revocations: Vec<Revocation>,
    /// Targets roles only: digests whose revocation was taken back, and why. Clients need not look: what counts is that
    /// `revocations` lists them no more; this makes it a signed act, where a lost revocation would be an accident.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reinstated: Vec<Revocation>,
    /// What people call the keys that this document gives roles to, by key id. Only for showing: nothing is decided by it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<KeyId, String>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

object!(Identity {
    trust: "trust" needed, at: "at" needed, scope: "scope" optional, view: "view" optional,
    revocations: "revocations" optional, reinstated: "reinstated" optional, names: "names" optional,
} extra => {
    let Time(at) = at;
    Identity { trust, at, scope, view, revocations, reinstated, names, extra }
});

impl Identity {
    /// What every document carries that we author: nothing but whose it is and when it was signed.
    pub fn new(trust: &str, at: DateTime<Utc>) -> Self {
        Self {
            trust: trust.to_owned(),
            at,
            scope: Vec::new(),
            view: None,
            revocations: Vec::new(),
            reinstated: Vec::new(),
            names: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }
}

/// A digest, or a whole scope, that was taken back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Revocation {
    /// The digest taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The path patterns of a delegation that was removed as a revocation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Why, in the publisher's words.
    pub reason: String,
    /// When, UTC.
    #[serde(serialize_with = "expires::serialize")]
    pub at: DateTime<Utc>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

object!(Revocation {
    digest: "digest" optional, paths: "paths" optional, reason: "reason" needed, at: "at" needed,
} extra => {
    let Time(at) = at;
    Revocation { digest, paths, reason, at, extra }
});

/// Which keys, and how many of them, sign a role.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RoleKeys {
    /// The ids of the keys.
    pub keyids: Vec<KeyId>,
    /// How many distinct keys must sign, from 1.
    pub threshold: u64,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

object!(RoleKeys { keyids: "keyids" needed, threshold: "threshold" needed } extra => {
    RoleKeys { keyids, threshold, extra }
});

/// `root` (4.3).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Root {
    /// Members common to all roles.
    #[serde(flatten)]
    pub common: Common,
    /// True if versioned files never change.
    pub consistent_snapshot: bool,
    /// All keys the top-level roles use.
    pub keys: BTreeMap<KeyId, Key>,
    /// `root`, `timestamp`, `snapshot`, `targets`, and possibly `mirrors`.
    pub roles: BTreeMap<String, RoleKeys>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

role!(Root { consistent_snapshot: "consistent_snapshot" optional, keys: "keys" needed, roles: "roles" needed });

impl Root {
    /// The keys of the four top-level roles, as far as they can be read. Two roots with one in common are of the same trust
    /// repository, if their trust ids do not tell: who signs for both has one voice.
    pub fn public_keys(&self) -> BTreeSet<PublicKey> {
        let top = ["root", "timestamp", "snapshot", "targets"];
        let ids = top.iter().filter_map(|role| self.roles.get(*role)).flat_map(|role| &role.keyids);
        ids.filter_map(|id| self.keys.get(id)?.public().ok()).collect()
    }
}

/// `timestamp` (4.6).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timestamp {
    /// Members common to all roles.
    #[serde(flatten)]
    pub common: Common,
    /// Has one entry, `snapshot.json`.
    pub meta: BTreeMap<String, MetaFile>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

role!(Timestamp { meta: "meta" needed });

/// `snapshot` (4.4).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// Members common to all roles.
    #[serde(flatten)]
    pub common: Common,
    /// `targets.json` and one entry for every delegated role, by file name without version.
    pub meta: BTreeMap<String, MetaFile>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

role!(Snapshot { meta: "meta" needed });

/// What a timestamp or snapshot says of a file (METAFILES and META, 4.4).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetaFile {
    /// The file's version, from 1.
    pub version: u64,
    /// Its length in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Its hashes in hex, by algorithm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hashes: Option<BTreeMap<String, String>>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

object!(MetaFile { version: "version" needed, length: "length" optional, hashes: "hashes" optional } extra => {
    MetaFile { version, length, hashes, extra }
});

/// `targets`, top level or delegated (4.5).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Targets {
    /// Members common to all roles.
    #[serde(flatten)]
    pub common: Common,
    /// What the role vouches for, by target name.
    pub targets: BTreeMap<String, Target>,
    /// Whom it delegates to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delegations: Option<Delegations>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

role!(Targets { targets: "targets" needed, delegations: "delegations" optional });

/// One target (4.5, TARGETS).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Target {
    /// Length in bytes; of a manifest, for us.
    pub length: u64,
    /// Hashes in hex, by algorithm.
    pub hashes: BTreeMap<String, String>,
    /// Whatever the publisher adds; we add `mediaType`, `immutable` and `index`. What is not an object stands in `extra` instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<BTreeMap<String, Json>>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

object!(Target { length: "length" needed, hashes: "hashes" needed, custom: "custom" optional } extra => {
    let custom = match custom {
        Custom::Absent => None,
        Custom::Object(members) => Some(members),
        Custom::Other(json) => {
            extra.insert("custom".to_owned(), json);
            None
        }
    };
    Target { length, hashes, custom, extra }
});

/// Delegations (4.5). Written with either `roles`, though it be empty, or `succinct_roles`: stock clients refuse both
/// and neither.
#[derive(Debug, Clone, PartialEq)]
pub struct Delegations {
    /// The keys of the delegated roles.
    pub keys: BTreeMap<KeyId, Key>,
    /// The delegated roles, in the order they are asked.
    pub roles: Vec<DelegatedRole>,
    /// Hash bins instead of `roles` (TAP 15).
    pub succinct_roles: Option<SuccinctRoles>,
    /// Members this version does not know.
    pub extra: Extra,
}

object!(Delegations {
    keys: "keys" needed, roles: "roles" optional, succinct_roles: "succinct_roles" optional,
} extra => Delegations { keys, roles, succinct_roles, extra });

/// One delegation (4.5, ROLES).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DelegatedRole {
    /// The role's name.
    pub name: String,
    /// Its keys.
    #[serde(flatten)]
    pub keys: RoleKeysOnly,
    /// True if names that match are asked of nobody after it.
    pub terminating: bool,
    /// Patterns of names it may speak about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// Or prefixes of the sha256 of the names, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_hash_prefixes: Option<Vec<String>>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

object!(DelegatedRole {
    name: "name" needed, keyids: "keyids" needed, threshold: "threshold" needed, terminating: "terminating" needed,
    paths: "paths" optional, path_hash_prefixes: "path_hash_prefixes" optional,
} extra => {
    let keys = RoleKeysOnly { keyids, threshold };
    DelegatedRole { name, keys, terminating, paths, path_hash_prefixes, extra }
});

/// Key ids and threshold inside a delegation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RoleKeysOnly {
    /// The ids of the keys.
    pub keyids: Vec<KeyId>,
    /// How many distinct keys must sign, from 1.
    pub threshold: u64,
}

/// TAP 15: `2^bit_length` roles called `name_prefix-HEX`, chosen by the leading bits of the name's sha256.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SuccinctRoles {
    /// Their keys.
    #[serde(flatten)]
    pub keys: RoleKeysOnly,
    /// 1 to 32.
    pub bit_length: u32,
    /// What the names start with.
    pub name_prefix: String,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

object!(SuccinctRoles {
    keyids: "keyids" needed, threshold: "threshold" needed, bit_length: "bit_length" needed,
    name_prefix: "name_prefix" needed,
} extra => {
    SuccinctRoles { keys: RoleKeysOnly { keyids, threshold }, bit_length, name_prefix, extra }
});

impl Serialize for Delegations {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Form<'a> {
            keys: &'a BTreeMap<KeyId, Key>,
            #[serde(skip_serializing_if = "Option::is_none")]
            roles: Option<&'a [DelegatedRole]>,
            #[serde(skip_serializing_if = "Option::is_none")]
            succinct_roles: Option<&'a SuccinctRoles>,
            #[serde(flatten)]
            extra: &'a Extra,
        }
        let roles = (self.succinct_roles.is_none() || !self.roles.is_empty()).then_some(&*self.roles);
        let succinct_roles = self.succinct_roles.as_ref();
        Form { keys: &self.keys, roles, succinct_roles, extra: &self.extra }.serialize(serializer)
    }
}

impl RoleType for Root {
    const TYPE: &'static str = "root";

    fn common(&self) -> &Common {
        &self.common
    }

    fn common_mut(&mut self) -> &mut Common {
        &mut self.common
    }

    fn check(&self) -> Result<(), String> {
        for role in ["root", "timestamp", "snapshot", "targets"] {
            if !self.roles.contains_key(role) {
                return Err(format!("no role `{role}`"));
            }
        }
        self.roles.iter().try_for_each(|(name, role)| check_threshold(name, role.threshold))
    }
}

impl RoleType for Timestamp {
    const TYPE: &'static str = "timestamp";

    fn common(&self) -> &Common {
        &self.common
    }

    fn common_mut(&mut self) -> &mut Common {
        &mut self.common
    }

    fn check(&self) -> Result<(), String> {
        check_meta(&self.meta, "snapshot.json")
    }
}

impl Timestamp {
    /// What it says of the snapshot.
    ///
    /// # Panics
    /// Never for a parsed document: `check` requires the entry.
    pub fn snapshot(&self) -> &MetaFile {
        &self.meta["snapshot.json"]
    }
}

impl RoleType for Snapshot {
    const TYPE: &'static str = "snapshot";

    fn common(&self) -> &Common {
        &self.common
    }

    fn common_mut(&mut self) -> &mut Common {
        &mut self.common
    }

    fn check(&self) -> Result<(), String> {
        check_meta(&self.meta, "targets.json")
    }
}

impl Snapshot {
    /// What it says of `role`.
    pub fn role(&self, role: &str) -> Option<&MetaFile> {
        self.meta.get(&format!("{role}.json"))
    }
}

impl RoleType for Targets {
    const TYPE: &'static str = "targets";

    fn common(&self) -> &Common {
        &self.common
    }

    fn common_mut(&mut self) -> &mut Common {
        &mut self.common
    }

    fn check(&self) -> Result<(), String> {
        if let Some((name, _)) = self.targets.iter().find(|(_, t)| t.hashes.is_empty()) {
            return Err(format!("target `{}` has no hash", cut(name)));
        }
        let Some(delegations) = &self.delegations else { return Ok(()) };
        if let Some(succinct) = &delegations.succinct_roles {
            if !delegations.roles.is_empty() {
                return Err("both `roles` and `succinct_roles`".to_owned());
            }
            if !(1..=32).contains(&succinct.bit_length) {
                return Err("bit_length is not in 1 to 32".to_owned());
            }
            check_threshold(&succinct.name_prefix, succinct.keys.threshold)?;
        }
        let mut names = std::collections::BTreeSet::new();
        for role in &delegations.roles {
            if matches!(role.name.as_str(), "" | "root" | "timestamp" | "snapshot" | "targets") {
                return Err(format!("delegates to `{}`", cut(&role.name)));
            }
            if !names.insert(&role.name) {
                return Err(format!("delegates to `{}` twice", cut(&role.name)));
            }
            if role.paths.is_some() == role.path_hash_prefixes.is_some() {
                return Err(format!("`{}` needs either paths or path_hash_prefixes", cut(&role.name)));
            }
            check_threshold(&role.name, role.keys.threshold)?;
        }
        Ok(())
    }
}

impl Targets {
    /// The delegated role `name`, if this role delegates to it by name.
    pub fn delegated(&self, name: &str) -> Option<&DelegatedRole> {
        self.delegations.as_ref()?.roles.iter().find(|role| role.name == name)
    }

    /// What the role takes back.
    pub fn revocations(&self) -> &[Revocation] {
        self.common.identity.as_ref().map_or(&[], |identity| &identity.revocations)
    }

    /// The revocations that the role took back.
    pub fn reinstated(&self) -> &[Revocation] {
        self.common.identity.as_ref().map_or(&[], |identity| &identity.reinstated)
    }
}

impl Target {
    /// The sha256, if it is listed and well-formed.
    pub fn digest(&self) -> Option<Digest> {
        Digest::from_hex(self.hashes.get("sha256")?).ok()
    }

    /// Checks that `content` is what the target `name` stands for: its length and every hash of a known algorithm,
    /// sha256 or sha512, must be the listed ones, and one of them must be known (5.7.2).
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Hash`].
    pub fn check_content(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        check_content(&cut(name), "its role", Some(self.length), Some(&self.hashes), content)
    }

    /// `custom.mediaType`: the media type of the manifest.
    pub fn media_type(&self) -> Option<&str> {
        self.custom.as_ref()?.get("mediaType")?.as_str()
    }

    /// `custom.immutable`: the tag was promised to mean this digest and no other, until the digest is revoked. Publishers
    /// and the daemon hold to it; clients do not need to.
    pub fn is_immutable(&self) -> bool {
        self.custom.as_ref().and_then(|custom| custom.get("immutable")?.read()).unwrap_or(false)
    }

    /// `custom.index`: the multi-platform indexes that this manifest was signed with. Revoking one revokes this, too.
    /// Empty for whatever was signed for itself.
    pub fn indexes(&self) -> Vec<Digest> {
        self.custom.as_ref().and_then(|custom| custom.get("index")?.read()).unwrap_or_default()
    }
}

impl MetaFile {
    /// What a document we author says of another: version, sha256 and length.
    pub fn of(version: u64, bytes: &[u8]) -> Self {
        Self::named(version, bytes.len() as u64, &Digest::of(bytes))
    }

    /// As [`MetaFile::of`], for a document of `length` bytes with the sha256 `digest`.
    pub fn named(version: u64, length: u64, digest: &Digest) -> Self {
        let hashes = BTreeMap::from([("sha256".to_owned(), digest.hex())]);
        Self { version, length: Some(length), hashes: Some(hashes), extra: BTreeMap::new() }
    }

    /// The sha256, if it is listed and well-formed.
    pub fn digest(&self) -> Option<Digest> {
        Digest::from_hex(self.hashes.as_ref()?.get("sha256")?).ok()
    }
}

/// `1.x` or `1.x.y`, as the reference implementation reads it: 4.3, SPEC_VERSION, is semantic versioning, and real
/// repositories leave out the patch level.
pub(super) fn is_spec_version(version: &str) -> bool {
    let parts: Vec<&str> = version.splitn(4, '.').collect();
    matches!(parts.len(), 2 | 3)
        && parts[0] == "1"
        && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

/// Clients name a directory by it, so nothing else passes.
pub(super) fn is_trust_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn check_threshold(name: &str, threshold: u64) -> Result<(), String> {
    if threshold == 0 { Err(format!("threshold 0 for `{}`", cut(name))) } else { Ok(()) }
}

fn check_meta(meta: &BTreeMap<String, MetaFile>, required: &str) -> Result<(), String> {
    if !meta.contains_key(required) {
        return Err(format!("no `{required}` in meta"));
    }
    match meta.iter().find(|(_, m)| m.version == 0 || m.hashes.as_ref().is_some_and(BTreeMap::is_empty)) {
        Some((name, _)) => Err(format!("`{}` has version 0 or an empty list of hashes", cut(name))),
        None => Ok(()),
    }
}

/// `referrer` lists `bytes` with this length and these hashes: a length and every known hash must hold, and if hashes are
/// listed, one must be known.
pub(super) fn check_content(
    role: &str,
    referrer: &'static str,
    length: Option<u64>,
    hashes: Option<&BTreeMap<String, String>>,
    bytes: &[u8],
) -> Result<(), Error> {
    if let Some(expected) = length
        && expected != bytes.len() as u64
    {
        return Err(Error::Length { role: role.to_owned(), expected, found: bytes.len() as u64 });
    }
    let Some(hashes) = hashes else { return Ok(()) };
    let refuse =
        |algorithm: &str| Error::Hash { role: role.to_owned(), referrer, algorithm: algorithm.to_owned() };
    let mut known = false;
    for (algorithm, listed) in hashes {
        let algorithm_impl = match algorithm.as_str() {
            "sha256" => &ring::digest::SHA256,
            "sha512" => &ring::digest::SHA512,
            _ => continue,
        };
        known = true;
        if HEXLOWER.encode(ring::digest::digest(algorithm_impl, bytes).as_ref()) != *listed {
            return Err(refuse(algorithm));
        }
    }
    if known { Ok(()) } else { Err(refuse("known hash")) }
}

/// What an error says of a text that nobody vouched for: short, and nothing that a terminal would obey.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// `YYYY-MM-DDTHH:MM:SSZ`.
pub(crate) fn format_time(time: &DateTime<Utc>) -> String {
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A `custom` of any type, `null` among them.
#[derive(Default)]
enum Custom {
    #[default]
    Absent,
    Object(BTreeMap<String, Json>),
    Other(Json),
}

impl<'de> Deserialize<'de> for Custom {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Json::deserialize(deserializer)? {
            Json::Other(raw) if raw.get().starts_with('{') => {
                serde_json::from_str(raw.get()).map(Self::Object).map_err(serde::de::Error::custom)
            }
            json => Ok(Self::Other(json)),
        }
    }
}

#[derive(Deserialize)]
struct Time(#[serde(with = "expires")] DateTime<Utc>);

/// Serde for times as TUF writes them: `YYYY-MM-DDTHH:MM:SSZ`, nothing else (4.2.1, EXPIRES).
pub mod expires {
    use serde::{Deserializer, Serializer, de::Error as _};

    use super::{DateTime, Deserialize, NaiveDateTime, Utc};

    /// Writes the time.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format_time(time))
    }

    /// Reads the time.
    ///
    /// # Errors
    /// Any other form.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%SZ").map(|t| t.and_utc());
        match parsed {
            // Years of four digits, no leap second: both have a second reading elsewhere.
            Ok(time)
                if text.len() == 20
                    && time.timestamp_subsec_nanos() == 0
                    && super::format_time(&time) == text =>
            {
                Ok(time)
            }
            _ => Err(D::Error::custom("a time is not of the form YYYY-MM-DDTHH:MM:SSZ")),
        }
    }
}
