//! From the policy as written to the policy that was checked.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use semver::VersionReq;

use super::{
    Action, Constraint, Format, OnAbsent, Pin, Place, Policy, PolicyError, PolicyFile, PolicyRule, Remap,
    Require, RootDocument, RootEntry, Rule, Scope, ScopeEntry, ScopeError, Vouch,
    duration::duration,
    error::Step,
    file::{ConstraintTable, PinTable, RemapTable, RequireTable, RootTable, ScopeTable},
    index::Index,
    locate::locate,
    rules::Scopes,
};
use crate::{
    oci::{Digest, Reference, RepositoryAddress},
    tuf::KeyId,
};

/// The roots there are, by name.
type Roots = BTreeMap<String, RootTable>;
/// A rule broken at a key below a table, by the way there.
type Broken = (Vec<Step>, PolicyRule);

impl PolicyFile {
    /// Checks every rule that the shape does not say (docs/policy.md) and returns the policy to decide by. No I/O: the files
    /// that it names are not looked at.
    ///
    /// # Errors
    /// [`PolicyError`] of the first rule that is broken, without a position.
    pub fn check(&self) -> Result<Policy, PolicyError> {
        let mut root = BTreeMap::new();
        for (name, table) in &self.root {
            let fail = |(path, rule): Broken| {
                let subject = subject(&format!("[root.{name}]"), &path);
                PolicyError::new(subject, path, rule).under(name.as_str()).under("root")
            };
            valid_name(name).map_err(|rule| fail((Vec::new(), rule)))?;
            root.insert(name.clone(), checked_root(table).map_err(fail)?);
        }
        let scopes = scopes(&self.scope, &self.root)?;
        let mut profiles = BTreeMap::new();
        for (name, table) in &self.profile {
            let under = |error: PolicyError| error.under(name.as_str()).under("profile");
            valid_name(name)
                .map_err(|rule| under(PolicyError::new(format!("[profile.{name}]"), Vec::new(), rule)))?;
            let checked =
                scopes_of(&table.scope, &self.root, &format!("[[profile.{name}.scope]]")).map_err(under)?;
            profiles.insert(name.clone(), checked);
        }
        Ok(Policy { root, scopes, profiles, remap: remaps(&self.remap)? })
    }
}

impl Policy {
    /// Refuses two names of one list, in any scope or profile, for which `same` is true: what only a look at the roots
    /// themselves can tell.
    ///
    /// # Errors
    /// [`PolicyRule::SameRepository`], without a position.
    pub fn check_voices(&self, same: impl Fn(&str, &str) -> bool) -> Result<(), PolicyError> {
        voices(&self.scopes, "[[scope]]", &same)?;
        for (name, scopes) in &self.profiles {
            voices(scopes, &format!("[[profile.{name}.scope]]"), &same)
                .map_err(|error| error.under(name.as_str()).under("profile"))?;
        }
        Ok(())
    }
}

fn voices(scopes: &Scopes, heading: &str, same: &impl Fn(&str, &str) -> bool) -> Result<(), PolicyError> {
    for (at, entry) in scopes.entries.iter().enumerate() {
        let Rule::Vouch(vouch) = &entry.rule else { continue };
        for (key, require) in [("require", Some(&vouch.require)), ("fallback", vouch.fallback.as_ref())] {
            let Some((second, root, other)) = require.and_then(|require| twice(require.roots(), same)) else {
                continue;
            };
            let list = match require {
                Some(Require::All(_)) => "all",
                Some(Require::Any(_)) => "any",
                _ => "of",
            };
            let path: Vec<Step> = vec![key.into(), list.into(), second.into()];
            let subject = subject(&format!("{heading} {}", entry.pattern), &path);
            let rule = PolicyRule::SameRepository { root: root.to_owned(), other: other.to_owned() };
            return Err(PolicyError::new(subject, path, rule).under(at).under("scope"));
        }
    }
    Ok(())
}

/// The first of `roots` that is the same as one before it, where it stands, and that one.
fn twice<'a>(roots: &'a [String], same: &impl Fn(&str, &str) -> bool) -> Option<(usize, &'a str, &'a str)> {
    roots.iter().enumerate().find_map(|(at, root)| {
        let other = roots[..at].iter().find(|other| same(root, other))?;
        Some((at, root.as_str(), other.as_str()))
    })
}

impl PolicyError {
    /// The same with its position in `text`, the policy that was checked.
    #[must_use]
    pub fn located(mut self, text: &str, format: Format) -> Self {
        if self.at.is_none() {
            self.at = Some(locate(text, format, &self.path));
        }
        self
    }

    /// A rule that the entry `root` of `[root]` breaks under `key`, for what only a look at files or another reader can
    /// tell.
    pub fn in_root(root: &str, key: &str, rule: PolicyRule) -> Self {
        Self::new(format!("[root.{root}] {key}"), vec!["root".into(), root.into(), key.into()], rule)
    }
}

/// A heading and the keys below it, for people.
fn subject(heading: &str, path: &[Step]) -> String {
    let keys = path.iter().map(|step| match step {
        Step::Key(key) => key.clone(),
        Step::Index(index) => (index + 1).to_string(),
    });
    let keys = keys.collect::<Vec<_>>().join(".");
    if keys.is_empty() { heading.to_owned() } else { format!("{heading} {keys}") }
}

/// A rule broken at `path`.
fn broken(path: &[&str], rule: impl Into<PolicyRule>) -> Broken {
    (path.iter().map(|key| Step::from(*key)).collect(), rule.into())
}

/// The same, below the key `key`.
fn below(key: &str) -> impl Fn(Broken) -> Broken + '_ {
    move |(mut path, rule)| {
        path.insert(0, key.into());
        (path, rule)
    }
}

/// It becomes a heading and a file name.
fn valid_name(name: &str) -> Result<(), PolicyRule> {
    let valid = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        && !name.starts_with('-');
    if valid { Ok(()) } else { Err(PolicyRule::Name { name: name.to_owned() }) }
}

fn checked_root(table: &RootTable) -> Result<RootEntry, Broken> {
    let sha256 = Digest::from_hex(&table.sha256).map_err(|_| broken(&["sha256"], PolicyRule::Sha256))?;
    let document = match (&table.file, &table.inline) {
        (Some(file), None) if file.as_os_str().is_empty() => {
            return Err(broken(&["file"], PolicyRule::Document));
        }
        (Some(file), None) => RootDocument::File(file.clone()),
        (None, Some(text)) => {
            let found = Digest::of(text.as_bytes());
            if found != sha256 {
                return Err(broken(&["inline"], PolicyRule::InlineDigest { found }));
            }
            RootDocument::Inline(text.clone())
        }
        _ => return Err(broken(&[], PolicyRule::Document)),
    };
    let mut places = Vec::new();
    for (at, text) in table.repository.0.iter().enumerate() {
        let fail = |rule: PolicyRule| {
            // A single place may be written without a list.
            let mut path: Vec<Step> = vec!["repository".into()];
            path.extend((table.repository.0.len() > 1).then(|| Step::from(at)));
            (path, rule)
        };
        let place: Place = text.parse().map_err(|error: super::PlaceError| fail(error.into()))?;
        if places.contains(&place) {
            return Err(fail(PolicyRule::Twice { item: text.clone() }));
        }
        places.push(place);
    }
    if places.is_empty() {
        return Err(broken(&["repository"], PolicyRule::Empty));
    }
    Ok(RootEntry { document, sha256, places, floor: table.floor.clone() })
}

fn scopes(tables: &[ScopeTable], roots: &Roots) -> Result<Scopes, PolicyError> {
    scopes_of(tables, roots, "[[scope]]")
}

fn scopes_of(tables: &[ScopeTable], roots: &Roots, heading: &str) -> Result<Scopes, PolicyError> {
    let fail = |at: usize, (path, rule): Broken| {
        let heading = format!("{heading} {}", tables[at].pattern.chars().take(300).collect::<String>());
        PolicyError::new(subject(&heading, &path), path, rule).under(at).under("scope")
    };
    let mut entries = Vec::with_capacity(tables.len());
    for (at, table) in tables.iter().enumerate() {
        entries.push(checked_scope(table, roots).map_err(|broken| fail(at, broken))?);
    }
    let index = Index::build(&entries).map_err(|(first, second)| {
        fail(second, broken(&["match"], PolicyRule::Equal { other: entries[first].pattern.clone() }))
    })?;
    Ok(Scopes { entries, index })
}

fn checked_scope(table: &ScopeTable, roots: &Roots) -> Result<ScopeEntry, Broken> {
    let (host, scope) = pattern(&table.pattern).map_err(|rule| broken(&["match"], rule))?;
    let rule = match table.action {
        Some(action) => acted(table, action)?,
        None => Rule::Vouch(Box::new(vouch(table, &scope, roots)?)),
    };
    Ok(ScopeEntry { pattern: table.pattern.clone(), host, scope, rule })
}

/// Host and scope of a `match`.
fn pattern(text: &str) -> Result<(String, Scope), PolicyRule> {
    // Told first: the host as well as the scope may be what only looks like one.
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(PolicyRule::Scope(ScopeError { text: text.chars().take(300).collect() }));
    }
    let no_host = || PolicyRule::Host { text: text.chars().take(300).collect() };
    let (host, scope) = text.split_once('/').ok_or_else(no_host)?;
    // A host by the same rule as in a reference: `acme/**` alone would read as a host called acme.
    let probe: Reference = format!("{host}/x").parse().map_err(|_| no_host())?;
    let canonical = probe.repository.host;
    if canonical != host {
        let other_name = host.contains(['.', ':', '[']) || host.eq_ignore_ascii_case(&canonical);
        let alias = PolicyRule::HostAlias { host: host.to_owned(), canonical };
        return Err(if other_name { alias } else { no_host() });
    }
    Ok((canonical, scope.parse()?))
}

/// What a scope with an `action` says.
fn acted(table: &ScopeTable, action: Action) -> Result<Rule, Broken> {
    let why = "a scope with an action asks nobody";
    for (key, given) in [
        ("require", table.require.is_some()),
        ("fallback", table.fallback.is_some()),
        ("on-absent", table.on_absent.is_some()),
        ("map", !table.map.is_empty()),
        ("pin", !table.pin.is_empty()),
        ("digest-refs", table.digest_refs.is_some()),
        ("constraint", table.constraint.is_some()),
        ("max-signed-age", table.max_signed_age.is_some()),
        ("max-staleness", table.max_staleness.is_some()),
        ("optional", table.optional.is_some()),
        ("veto", table.veto.is_some()),
    ] {
        if given {
            return Err(broken(&[key], PolicyRule::Misplaced { key, why }));
        }
    }
    let reason = table.reason.clone().filter(|reason| !reason.trim().is_empty());
    let reason = reason.ok_or_else(|| broken(&["action"], PolicyRule::Needed { key: "reason" }))?;
    if action == Action::Deny {
        for (key, given) in [("digests", table.digests.is_some()), ("until", table.until.is_some())] {
            if given {
                let why = "it belongs to action = \"allow-digest\"";
                return Err(broken(&[key], PolicyRule::Misplaced { key, why }));
            }
        }
        return Ok(Rule::Deny { reason });
    }
    let needed = |key| broken(&["action"], PolicyRule::Needed { key });
    let listed = table.digests.as_ref().ok_or_else(|| needed("digests"))?;
    let mut digests = BTreeSet::new();
    for (at, text) in listed.iter().enumerate() {
        let fail = |rule| (vec!["digests".into(), at.into()], rule);
        let digest: Digest = text.parse().map_err(|error| fail(PolicyRule::Digest(error)))?;
        if !digests.insert(digest) {
            return Err(fail(PolicyRule::Twice { item: text.clone() }));
        }
    }
    if digests.is_empty() {
        return Err(broken(&["digests"], PolicyRule::Empty));
    }
    let text = table.until.as_ref().ok_or_else(|| needed("until"))?;
    let until = DateTime::parse_from_rfc3339(text)
        .map_err(|_| broken(&["until"], PolicyRule::Time { text: text.chars().take(80).collect() }))?;
    Ok(Rule::AllowDigest { digests, until: until.with_timezone(&Utc), reason })
}

/// What a scope without an `action` says.
fn vouch(table: &ScopeTable, scope: &Scope, roots: &Roots) -> Result<Vouch, Broken> {
    for (key, given) in [
        ("reason", table.reason.is_some()),
        ("digests", table.digests.is_some()),
        ("until", table.until.is_some()),
    ] {
        if given {
            return Err(broken(&[key], PolicyRule::Misplaced { key, why: "it belongs to an action" }));
        }
    }
    let require = table.require.as_ref().ok_or_else(|| broken(&[], PolicyRule::NoRequire))?;
    let require = checked_require(require, roots).map_err(below("require"))?;
    let fallback = match (&table.fallback, table.on_absent) {
        (Some(fallback), Some(OnAbsent::Fallback)) => {
            Some(checked_require(fallback, roots).map_err(below("fallback"))?)
        }
        (None, None | Some(OnAbsent::Reject)) => None,
        (Some(_), _) => return Err(broken(&["fallback"], PolicyRule::Fallback)),
        (None, Some(OnAbsent::Fallback)) => return Err(broken(&["on-absent"], PolicyRule::Fallback)),
    };
    let named: BTreeSet<&str> = [Some(&require), fallback.as_ref()]
        .into_iter()
        .flatten()
        .flat_map(Require::roots)
        .map(String::as_str)
        .collect();
    let optional = subset("optional", table.optional.as_deref(), &named, roots)?.unwrap_or_default();
    for (key, require) in [("require", Some(&require)), ("fallback", fallback.as_ref())] {
        if let Some(Require::All(all)) = require
            && all.iter().all(|root| optional.contains(root))
        {
            return Err(broken(&["optional"], PolicyRule::AllOptional)).map_err(|(path, rule)| {
                // The same list may leave nobody of the fallback only: it is named by the key that it empties.
                if key == "require" { (path, rule) } else { broken(&["fallback"], rule) }
            });
        }
    }
    let veto = subset("veto", table.veto.as_deref(), &named, roots)?
        .unwrap_or_else(|| named.iter().map(|root| (*root).to_owned()).collect());
    Ok(Vouch {
        map: mapped(&table.map, scope, &named, roots).map_err(below("map"))?,
        pin: pinned(&table.pin, &named, roots).map_err(below("pin"))?,
        digest_refs: table.digest_refs.unwrap_or_default(),
        constraint: table.constraint.as_ref().map(constraint).transpose().map_err(below("constraint"))?,
        max_signed_age: time("max-signed-age", table.max_signed_age.as_deref())?,
        max_staleness: time("max-staleness", table.max_staleness.as_deref())?,
        optional,
        veto,
        require,
        fallback,
    })
}

fn checked_require(table: &RequireTable, roots: &Roots) -> Result<Require, Broken> {
    let (key, require) = match (&table.all, &table.any, table.threshold, &table.of) {
        (Some(all), None, None, None) => ("all", Require::All(all.clone())),
        (None, Some(any), None, None) => ("any", Require::Any(any.clone())),
        (None, None, Some(threshold), Some(of)) => {
            let fitting = usize::try_from(threshold).ok().filter(|needed| (1..=of.len()).contains(needed));
            // An empty list is told as such.
            let Some(threshold) = fitting.or((of.is_empty()).then_some(1)) else {
                return Err(broken(&["threshold"], PolicyRule::Threshold { threshold, of: of.len() }));
            };
            ("of", Require::Threshold { threshold, of: of.clone() })
        }
        _ => return Err(broken(&[], PolicyRule::RequireForm)),
    };
    if require.roots().is_empty() {
        return Err(broken(&[key], PolicyRule::Empty));
    }
    // The sha256 of each is one already: only lower-case digits are.
    let mut seen = BTreeMap::<&str, &String>::new();
    for (at, root) in require.roots().iter().enumerate() {
        let fail = |rule| Err((vec![key.into(), at.into()], rule));
        let Some(table) = roots.get(root) else {
            return fail(PolicyRule::UnknownRoot { root: root.clone() });
        };
        match seen.insert(&table.sha256, root) {
            None => {}
            Some(other) if other == root => return fail(PolicyRule::Twice { item: root.clone() }),
            Some(other) => {
                return fail(PolicyRule::SameRoot { root: root.clone(), other: other.clone() });
            }
        }
    }
    Ok(require)
}

/// `root`, if the scope names it.
fn named_root(root: &str, named: &BTreeSet<&str>, roots: &Roots) -> Result<(), PolicyRule> {
    if named.contains(root) {
        return Ok(());
    }
    let root = root.to_owned();
    Err(if roots.contains_key(&root) {
        PolicyRule::NotRequired { root }
    } else {
        PolicyRule::UnknownRoot { root }
    })
}

/// The roots listed under `key`.
fn subset(
    key: &str,
    listed: Option<&[String]>,
    named: &BTreeSet<&str>,
    roots: &Roots,
) -> Result<Option<BTreeSet<String>>, Broken> {
    let Some(listed) = listed else { return Ok(None) };
    if listed.is_empty() {
        return Err(broken(&[key], PolicyRule::Empty));
    }
    let mut set = BTreeSet::new();
    for (at, root) in listed.iter().enumerate() {
        let fail = |rule| (vec![key.into(), at.into()], rule);
        named_root(root, named, roots).map_err(fail)?;
        if !set.insert(root.clone()) {
            return Err(fail(PolicyRule::Twice { item: root.clone() }));
        }
    }
    Ok(Some(set))
}

fn mapped(
    table: &BTreeMap<String, String>,
    scope: &Scope,
    named: &BTreeSet<&str>,
    roots: &Roots,
) -> Result<BTreeMap<String, Scope>, Broken> {
    let one = |(root, text): (&String, &String)| {
        let inside: Scope = text.parse().map_err(PolicyRule::Scope)?;
        named_root(root, named, roots)?;
        if !inside.has_form_of(scope) {
            return Err(PolicyRule::Map { map: text.clone(), pattern: scope.to_string() });
        }
        Ok((root.clone(), inside))
    };
    table.iter().map(|entry| one(entry).map_err(|rule| broken(&[entry.0.as_str()], rule))).collect()
}

fn pinned(
    table: &BTreeMap<String, PinTable>,
    named: &BTreeSet<&str>,
    roots: &Roots,
) -> Result<BTreeMap<String, Pin>, Broken> {
    let mut pins = BTreeMap::new();
    for (root, pin) in table {
        named_root(root, named, roots).map_err(|rule| broken(&[root], rule))?;
        if matches!(pin.role.as_str(), "" | "root" | "timestamp" | "snapshot" | "mirrors") {
            return Err(broken(&[root, "role"], PolicyRule::PinRole { role: pin.role.clone() }));
        }
        if pin.keys.as_ref().is_some_and(Vec::is_empty) {
            return Err(broken(&[root, "keys"], PolicyRule::Empty));
        }
        let mut keys = Vec::new();
        for (at, id) in pin.keys.iter().flatten().enumerate() {
            let fail = |rule| Err((vec![root.as_str().into(), "keys".into(), at.into()], rule));
            // Whole, not what is shown of it to people: a key that cannot be there would refuse everything.
            if Digest::from_hex(id).is_err() {
                return fail(PolicyRule::KeyId { id: id.chars().take(80).collect() });
            }
            if keys.contains(&KeyId(id.clone())) {
                return fail(PolicyRule::Twice { item: id.clone() });
            }
            keys.push(KeyId(id.clone()));
        }
        pins.insert(root.clone(), Pin { role: pin.role.clone(), keys });
    }
    Ok(pins)
}

fn constraint(table: &ConstraintTable) -> Result<Constraint, Broken> {
    let version = |key: &str, text: &String| {
        text.parse::<VersionReq>().map_err(|source| {
            broken(&[key], PolicyRule::Version { text: text.chars().take(80).collect(), source })
        })
    };
    match (&table.tag, &table.custom_version) {
        (Some(tag), None) => Ok(Constraint::Tag(version("tag", tag)?)),
        (None, Some(custom)) => Ok(Constraint::CustomVersion(version("custom-version", custom)?)),
        _ => Err(broken(&[], PolicyRule::ConstraintForm)),
    }
}

fn time(key: &str, text: Option<&str>) -> Result<Option<TimeDelta>, Broken> {
    text.map(duration).transpose().map_err(|error| broken(&[key], error))
}

/// The remaps, the longest `from` first.
fn remaps(tables: &[RemapTable]) -> Result<Vec<Remap>, PolicyError> {
    let mut remaps = Vec::<Remap>::new();
    for (at, table) in tables.iter().enumerate() {
        let fail = |key: &str, rule| {
            PolicyError::new(format!("[[remap]] {key}"), vec![key.into()], rule).under(at).under("remap")
        };
        for (key, text) in [("from", &table.from), ("to", &table.to)] {
            prefix(text).map_err(|rule| fail(key, rule))?;
        }
        if table.from == table.to || remaps.iter().any(|known| known.from == table.from) {
            return Err(fail("from", PolicyRule::RemapTwice { from: table.from.clone() }));
        }
        remaps.push(Remap { from: table.from.clone(), to: table.to.clone() });
    }
    remaps.sort_by(|a, b| b.from.len().cmp(&a.from.len()).then_with(|| a.from.cmp(&b.from)));
    Ok(remaps)
}

/// A host, or a host and whole path segments, as references are read.
fn prefix(text: &str) -> Result<(), PolicyRule> {
    let shown = || text.chars().take(300).collect::<String>();
    let whole = if text.contains('/') { text.to_owned() } else { format!("{text}/x/y") };
    let address: RepositoryAddress = whole
        .parse()
        .map_err(|source| PolicyRule::RemapPrefix { text: shown(), source: Box::new(source) })?;
    let host = text.split('/').next().unwrap_or_default();
    if address.host == host {
        return Ok(());
    }
    let other_name = host.contains(['.', ':', '[']) || host.eq_ignore_ascii_case(&address.host);
    Err(if other_name {
        PolicyRule::HostAlias { host: host.to_owned(), canonical: address.host }
    } else {
        PolicyRule::Host { text: shown() }
    })
}
