//! What a draft changes, in words, for whoever shall sign it. Pure: no I/O, no clock.
//!
//! Nothing that the signature covers may go unsaid: what there are no words for is told as a warning.

mod names;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use plimsoll_core::{
    policy::Scope,
    tuf::{DelegatedRole, Delegations, Document, Identity, Key, KeyId, Root, Targets, metadata::Common},
};

use super::Draft;

/// Names of keys are cut here, characters.
const MAX_NAME: usize = 64;
const NO_WORDS: &str =
    "  WARNING: it changes something else, for which this version of plimsoll has no words";

/// What signing the draft means, compared to what is published now, one line each, those that belong to a role indented
/// below its line. Of names, more than `most` lines of one kind are only counted, but for warnings. The texts in it are
/// others': make them fit for a terminal.
///
/// Present documents are believed as far as the draft's chain of roots vouches for them; whether that chain is the
/// right one is [`Draft::check_pinned`]'s question.
pub fn words(draft: &Draft, now: DateTime<Utc>, most: usize) -> Vec<String> {
    let (trust, repository) = (draft.trust_id(), draft.repository());
    let mut lines = vec![if draft.is_first() {
        format!("a NEW trust repository: {trust}, for {repository}")
    } else {
        format!("a change of the trust repository {trust}, for {repository}")
    }];
    if let Some(next) = draft.next_root() {
        match draft.roots().last() {
            Some(before) => root_changes(&mut lines, before, next, now),
            None => first_root(&mut lines, next, now),
        }
    }
    for (role, next) in draft.next_targets() {
        targets(&mut lines, draft, (role, next), now, most);
    }
    lines
}

/// Keys of one role: their ids, how many must sign, and what the document says that the ids stand for.
#[derive(Clone, Copy)]
struct Signers<'a> {
    ids: &'a [KeyId],
    threshold: u64,
    keys: &'a BTreeMap<KeyId, Key>,
}

impl<'a> Signers<'a> {
    fn of_root(root: &'a Root, role: &str) -> Self {
        let keys = &root.roles[role];
        Self { ids: &keys.keyids, threshold: keys.threshold, keys: &root.keys }
    }

    fn of_role(delegations: &'a Delegations, role: &'a DelegatedRole) -> Self {
        Self { ids: &role.keys.keyids, threshold: role.keys.threshold, keys: &delegations.keys }
    }

    fn how_many(self) -> String {
        format!("{} of {}", self.threshold, self.ids.len())
    }

    /// True if the id is listed here, and stands for the key that it stands for there.
    fn has(self, id: &KeyId, there: Self) -> bool {
        self.ids.contains(id) && self.keys.get(id) == there.keys.get(id)
    }
}

/// What people call keys: the present document's word first, for whoever signs knows that one.
struct Called<'a>(Vec<&'a BTreeMap<KeyId, String>>);

impl<'a> Called<'a> {
    fn by(documents: impl IntoIterator<Item = &'a Common>) -> Self {
        let identities = documents.into_iter().filter_map(|common| common.identity.as_ref());
        Self(identities.map(|identity| &identity.names).collect())
    }

    fn name(&self, id: &KeyId) -> Option<String> {
        let name = self.0.iter().find_map(|names| names.get(id))?;
        Some(name.chars().take(MAX_NAME).collect())
    }

    /// A key that is known.
    fn known(&self, id: &KeyId) -> String {
        self.name(id).map_or_else(|| id.short().to_owned(), |name| format!("{name} ({})", id.short()))
    }

    /// A key that is new: its whole id, computed here, for the beginning of an id can be made to look like another's.
    fn whole(&self, id: &KeyId, keys: &BTreeMap<KeyId, Key>) -> String {
        let name = self.name(id).map_or_else(String::new, |name| format!("{name}, "));
        match keys.get(id).map(Key::id) {
            Some(computed) if computed == *id => format!("{name}key id {id}"),
            Some(computed) => format!("{name}key id {computed} (which the document calls {id})"),
            None => format!("{name}key id {id} (the key itself is missing, so it can sign nothing)"),
        }
    }
}

fn first_root(lines: &mut Vec<String>, root: &Document<Root>, now: DateTime<Utc>) {
    let signed = &root.signed;
    let called = Called::by([&signed.common]);
    for scope in signed.common.identity.iter().flat_map(|identity| &identity.scope) {
        lines.push(format!("  it may speak about {}", covered(scope)));
    }
    lines.push(format!(
        "root version {} (says whose keys count), {}",
        root.version(),
        valid(&signed.common, None, now)
    ));
    for (role, what) in [("root", "the root"), ("targets", "targets")] {
        let signers = Signers::of_root(signed, role);
        lines.push(format!("  {what} needs {} signatures:", signers.how_many()));
        lines.extend(signers.ids.iter().map(|id| format!("    {}", called.whole(id, &signed.keys))));
    }
    for role in ["timestamp", "snapshot"] {
        let signers = Signers::of_root(signed, role);
        let keys: Vec<String> = signers.ids.iter().map(|id| called.whole(id, &signed.keys)).collect();
        let many = if signers.threshold == 1 { "" } else { ", all of them" };
        lines.push(format!("  the daemon signs {role} with {}{many}", keys.join(" or ")));
    }
    let mut plain = Root {
        common: signed.common.clone(),
        consistent_snapshot: true,
        keys: signed.keys.clone(),
        roles: signed.roles.clone(),
        extra: BTreeMap::new(),
    };
    plain.roles.retain(|role, _| matches!(role.as_str(), "root" | "targets" | "timestamp" | "snapshot"));
    if let Some(identity) = &mut plain.common.identity {
        let told = Identity::new(&identity.trust, identity.at);
        let (scope, names) = (identity.scope.clone(), identity.names.clone());
        *identity = Identity { scope, names, ..told };
    }
    if plain != *signed {
        lines.push(NO_WORDS.to_owned());
    }
}

fn root_changes(
    lines: &mut Vec<String>,
    before: &Document<Root>,
    after: &Document<Root>,
    now: DateTime<Utc>,
) {
    let (old, new) = (&before.signed, &after.signed);
    let called = Called::by([&old.common, &new.common]);
    lines.push(format!(
        "root version {} (says whose keys count), {}",
        after.version(),
        valid(&new.common, Some(&old.common), now)
    ));
    let first = lines.len();
    for (role, what) in [("root", "the root"), ("targets", "targets")] {
        signer_changes(lines, what, Signers::of_root(old, role), Signers::of_root(new, role), &called);
    }
    for role in ["timestamp", "snapshot"] {
        let what = format!("{role}, for the daemon,");
        signer_changes(lines, &what, Signers::of_root(old, role), Signers::of_root(new, role), &called);
    }
    let scopes = |root: &Root| root.common.identity.clone().map_or_else(Vec::new, |identity| identity.scope);
    let (had, has) = (scopes(old), scopes(new));
    let wider = has.iter().filter(|scope| !had.contains(scope));
    lines.extend(wider.map(|scope| format!("  may speak about {}, too", covered(scope))));
    let narrower = had.iter().filter(|scope| !has.contains(scope));
    lines.extend(narrower.map(|scope| format!("  may not speak about {} any more", covered(scope))));
    renamed(lines, &old.common, &new.common);
    let mut rest = old.clone();
    rest.common = like(&rest.common, &new.common);
    if let (Some(rest), Some(new)) = (&mut rest.common.identity, &new.common.identity) {
        rest.scope.clone_from(&new.scope);
    }
    rest.keys.clone_from(&new.keys);
    for (role, keys) in &mut rest.roles {
        if let Some(new) = new.roles.get(role).filter(|_| role != "mirrors") {
            keys.keyids.clone_from(&new.keyids);
            keys.threshold = new.threshold;
        }
    }
    if rest != *new {
        lines.push(NO_WORDS.to_owned());
    }
    if lines.len() == first {
        lines.push("  nothing else changes".to_owned());
    }
}

fn targets(
    lines: &mut Vec<String>,
    draft: &Draft,
    (role, after): (&str, &Document<Targets>),
    now: DateTime<Utc>,
    most: usize,
) {
    let vouched = draft.is_vouched(role);
    let before = draft.present(role).filter(|_| vouched).map(|document| &document.signed);
    let new = &after.signed;
    let is = if role == "targets" { " (says who may sign which names)" } else { "" };
    lines.push(format!(
        "{role} version {}{is}, {}",
        after.version(),
        valid(&new.common, before.map(|before| &before.common), now)
    ));
    let first = lines.len();
    if before.is_none() && draft.present(role).is_some() {
        lines.push(
            "  WARNING: nobody who may sign it signed what it starts from, so all of it is shown as new"
                .to_owned(),
        );
    }
    let nothing = empty(new);
    let old = before.unwrap_or(&nothing);
    delegation_changes(lines, old, new);
    names::changes(lines, old, new, most);
    if before.is_some() {
        renamed(lines, &old.common, &new.common);
    }
    let mut rest = old.clone();
    rest.common = like(&rest.common, &new.common);
    rest.targets.clone_from(&new.targets);
    if let (Some(rest), Some(new)) = (&mut rest.delegations, &new.delegations) {
        rest.keys.clone_from(&new.keys);
        rest.roles.clone_from(&new.roles);
    } else if new.delegations.as_ref().is_some_and(|new| new.succinct_roles.is_none() && new.extra.is_empty())
    {
        rest.delegations.clone_from(&new.delegations);
    }
    if rest != *new {
        lines.push(NO_WORDS.to_owned());
    }
    if lines.len() == first {
        lines.push(if before.is_some() {
            "  the same content as before, signed anew".to_owned()
        } else {
            "  nothing is signed and nothing delegated yet".to_owned()
        });
    }
}

fn delegation_changes(lines: &mut Vec<String>, old: &Targets, new: &Targets) {
    let called = Called::by([&old.common, &new.common]);
    let roles = |targets: &Targets| targets.delegations.clone().map_or_else(Vec::new, |all| all.roles);
    let (had, has) = (roles(old), roles(new));
    for role in &had {
        if new.delegated(&role.name).is_none() {
            lines.push(format!("  takes {} away from {}", spoken(role), role.name));
        }
    }
    for role in &has {
        let Some(delegations) = &new.delegations else { continue };
        let signers = Signers::of_role(delegations, role);
        let before = old.delegations.as_ref().zip(old.delegated(&role.name));
        let Some((delegations, before)) = before else {
            lines.push(format!(
                "  gives {} to {}, which needs {} signatures:",
                spoken(role),
                role.name,
                signers.how_many()
            ));
            lines.extend(scopes(role).map(|scope| format!("    covers {}", scope.in_words())));
            lines.extend(signers.ids.iter().map(|id| format!("    {}", called.whole(id, signers.keys))));
            if !role.terminating {
                lines.push("    clients may ask others for these names after it".to_owned());
            }
            if !role.extra.is_empty() {
                lines.push(format!(
                    "  WARNING: {} has more to it, for which this version has no words",
                    role.name
                ));
            }
            continue;
        };
        if before.paths != role.paths {
            lines.push(format!(
                "  {} may speak about {} instead of {}",
                role.name,
                spoken(role),
                spoken(before)
            ));
        }
        signer_changes(lines, &role.name, Signers::of_role(delegations, before), signers, &called);
        let mut rest = before.clone();
        rest.paths.clone_from(&role.paths);
        rest.keys = role.keys.clone();
        if rest != *role {
            lines.push(format!(
                "  WARNING: {} changes otherwise, for which this version has no words",
                role.name
            ));
        }
    }
    let kept = |roles: &[DelegatedRole], others: &[DelegatedRole]| -> Vec<String> {
        let kept = roles.iter().filter(|role| others.iter().any(|other| other.name == role.name));
        kept.map(|role| role.name.clone()).collect()
    };
    if kept(&had, &has) != kept(&has, &had) {
        let order: Vec<&str> = has.iter().map(|role| role.name.as_str()).collect();
        lines.push(format!(
            "  asks in another order, which matters where scopes overlap: {}",
            order.join(", ")
        ));
    }
}

/// Keys added and removed, and how many must sign.
fn signer_changes(
    lines: &mut Vec<String>,
    what: &str,
    before: Signers<'_>,
    after: Signers<'_>,
    called: &Called<'_>,
) {
    let first = lines.len();
    let removed = before.ids.iter().filter(|id| !after.has(id, before));
    lines.extend(removed.map(|id| format!("  {} may not sign {what} any more", called.known(id))));
    let added = after.ids.iter().filter(|id| !before.has(id, after));
    lines.extend(added.map(|id| format!("  may sign {what} from now on: {}", called.whole(id, after.keys))));
    let (had, has) = (before.how_many(), after.how_many());
    if had != has {
        lines.push(format!("  {what} needs {has} signatures instead of {had}"));
    } else if lines.len() > first {
        lines.push(format!("  {what} needs {has} signatures, as before"));
    }
}

/// Keys that are called otherwise than before.
fn renamed(lines: &mut Vec<String>, old: &Common, new: &Common) {
    let (had, has) = (Called::by([old]), Called::by([new]));
    let known = old.identity.iter().flat_map(|identity| identity.names.keys());
    for id in known {
        if let (Some(had), Some(has)) = (had.name(id), has.name(id))
            && had != has
        {
            lines.push(format!("  calls the key {} `{has}`, which was called `{had}`", id.short()));
        }
    }
}

/// `old` with all of `new` that is told in words or need not be.
fn like(old: &Common, new: &Common) -> Common {
    let mut like = old.clone();
    like.version = new.version;
    like.expires = new.expires;
    if let (Some(like), Some(new)) = (&mut like.identity, &new.identity) {
        like.at = new.at;
        like.names.clone_from(&new.names);
        like.revocations.clone_from(&new.revocations);
        like.reinstated.clone_from(&new.reinstated);
    }
    like
}

/// A document of nothing, for `new` to be compared with.
fn empty(new: &Targets) -> Targets {
    let mut common = new.common.clone();
    if let Some(identity) = &mut common.identity {
        *identity = Identity::new(&identity.trust, identity.at);
    }
    Targets { common, targets: BTreeMap::new(), delegations: None, extra: BTreeMap::new() }
}

fn valid(new: &Common, old: Option<&Common>, now: DateTime<Utc>) -> String {
    let days = (new.expires - now).num_days();
    let left = if new.expires <= now { "already over".to_owned() } else { format!("{days} days from now") };
    let before = old.map_or_else(String::new, |old| format!("; before: {}", date(old.expires)));
    format!("valid until {} ({left}{before})", date(new.expires))
}

fn date(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// A scope and what it covers.
fn covered(scope: &str) -> String {
    match scope.parse::<Scope>() {
        Ok(known) => format!("{scope}: {}", known.in_words()),
        Err(_) => scope.to_owned(),
    }
}

fn spoken(role: &DelegatedRole) -> String {
    role.paths.as_deref().map_or_else(|| "names by their hash".to_owned(), Scope::spell)
}

fn scopes(role: &DelegatedRole) -> impl Iterator<Item = Scope> {
    let spelled = spoken(role);
    let scopes: Vec<Scope> = spelled.split(", ").filter_map(|scope| scope.parse().ok()).collect();
    scopes.into_iter()
}
