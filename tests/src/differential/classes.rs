//! The differences that are explained: docs/divergences.md has a row for each.
//!
//! A class knows the case and what both clients said, and is as narrow as that allows: what was done to the repository,
//! who is stricter, and why in the other client's words.

use serde_json::Value;

use super::{
    Answer, Client, Divergence, Kind, Stage,
    generate::NOW,
    json::Seg,
    mutate::Sort,
    repository::{Files, Paths, Repository, Signatures, TOP, root_version},
};

/// A kind of difference with a reason.
#[derive(Clone, Copy)]
pub struct Class {
    name: &'static str,
    client: Client,
    explains: fn(&Divergence<'_>) -> bool,
}

impl Class {
    /// Its name, as in docs/divergences.md.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The client that differs from ours.
    pub fn client(&self) -> Client {
        self.client
    }

    pub(super) fn explains(&self, divergence: &Divergence<'_>) -> bool {
        (self.explains)(divergence)
    }
}

/// All classes.
pub fn classes() -> impl Iterator<Item = Class> {
    CLASSES.iter().copied()
}

const fn python(name: &'static str, explains: fn(&Divergence<'_>) -> bool) -> Class {
    Class { name, client: Client::PythonTuf, explains }
}

const fn tough(name: &'static str, explains: fn(&Divergence<'_>) -> bool) -> Class {
    Class { name, client: Client::Tough, explains }
}

const CLASSES: &[Class] = &[
    // ------------------------------------------------------------ python-tuf refuses, or knows less
    python("unknown-key", |d| {
        d.theirs_say("Unsupported public key")
            || d.theirs_say("public key string required")
            || d.path_has("keys") && d.stage > 0 && d.our_kind() == Some(Kind::Signatures)
    }),
    python("unknown-hash", |d| d.theirs_say("Unsupported algorithm")),
    python("points", |d| d.has("points") && d.their_kind() == Some(Kind::Signatures)),
    python("repeated-key-ids", |d| d.theirs_say("Nonunique keyids") && d.only_theirs_fails()),
    python("brackets", |d| {
        d.name.is_some_and(|name| d.any_pattern(|p| p.contains('[') && bracketed(p, name)))
    }),
    python("delegations-without-roles", |d| {
        let null = d.theirs_say("NoneType") && d.path_has("delegations");
        (d.theirs_say("One of roles and succinct_roles must be set") || null) && d.only_theirs_fails()
    }),
    python("recovery-by-last-root", |d| {
        d.theirs_say("New timestamp version") && d.roots_were_added() && d.only_theirs_fails()
    }),
    python("recovery-of-snapshot", |d| {
        d.theirs_say("New snapshot version") && d.roots_were_added() && d.only_theirs_fails()
    }),
    python("recovery-of-timestamp", |d| {
        let older = d.ours_say("snapshot: ") && d.ours_say("is older than version");
        older && d.roots_were_added() && d.only_ours_fails(Kind::Version)
    }),
    python("empty-snapshot", |d| d.theirs_say("Role targets was delegated but is not part of snapshot")),
    // ------------------------------------------------------------ python-tuf is less strict
    python("duplicate-members", |d| d.sort() == Sort::Duplicate && d.duplicate_counts()),
    python("empty-prefix", |d| d.name.is_some() && d.has_empty_prefix()),
    python("loose-pem", |d| d.path_has("public") && d.only_ours_fails(Kind::Signatures)),
    python("held-by-hash", |d| d.stage > 0 && d.held_file_is_refused()),
    python("equal-versions", |d| {
        d.ours_say("was seen before with other content")
            || d.stage > 0 && d.equal_versions() && d.one_is_left_behind()
    }),
    python("held-without-hash", |d| {
        let theirs = matches!(d.their_kind(), None | Some(Kind::Expired));
        d.stage > 0 && theirs && d.lists_no_sha256() && d.held_would_do()
    }),
    python("held-snapshot", |d| {
        let of_snapshot = d.ours_say("snapshot: ") && d.only_ours_fails(Kind::Mismatch);
        d.stage > 0 && of_snapshot && d.touches("timestamp") && d.path_has("snapshot.json")
    }),
    python("upper-case-hex", |d| d.has_upper_case_hex() && d.our_kind() == Some(Kind::Signatures)),
    python("one-key-two-ids", |d| d.sort() == Sort::TwoIds && d.our_kind() == Some(Kind::Signatures)),
    python("large-integers", |d| d.ours_say("an integer out of range") || d.held_large_version()),
    python("loose-types", |d| {
        // What it took once for a root stays its root.
        let stuck = d.stage > 0 && d.path_has("keyids") && d.their_kind() == Some(Kind::Signatures);
        matches!(d.sort(), Sort::Retype | Sort::Insert)
            && (d.ours_say("not of the shape") && d.theirs_hold() || stuck)
    }),
    python("null-members", |d| d.has_null_member() && d.their_kind() == Some(Kind::Signatures)),
    python("x-plimsoll", |d| d.path_has("x-plimsoll") && d.our_kind().is_some()),
    // ------------------------------------------------------------ tough cannot read what TUF allows
    tough("no-bins", |d| d.theirs_say("missing field `roles`") && d.has_bins()),
    tough("sha256-only", |d| d.theirs_say("missing field `sha256`")),
    tough("unknown-key", |d| {
        let unreadable = d.theirs_say("unknown variant") || d.theirs_say("Invalid SubjectPublicKeyInfo");
        unreadable && (d.has("unknown-key") || d.has("p384"))
            || d.their_kind() == Some(Kind::Malformed) && d.path_has("keys")
            || d.path_has("keys") && d.stage > 0 && d.our_kind() == Some(Kind::Signatures)
    }),
    tough("key-ids", |d| {
        d.theirs_say("Invalid hex string") && (d.has("opaque-ids") || d.path_has("keyids"))
            || d.theirs_say("Invalid key ID")
            || d.path_has("keyids") && d.our_kind() == Some(Kind::Signatures)
    }),
    tough("consistent-snapshot", |d| d.theirs_say("missing field `consistent_snapshot`")),
    tough("malformed-signature", |d| {
        d.theirs_say("Invalid hex string") && d.touches_signatures() && d.only_theirs_fails()
    }),
    tough("malformed-hash", |d| d.theirs_say("Invalid hex string") && d.path_has("hashes")),
    tough("unknown-members", |d| {
        let empty = d.path_has("custom") && d.case.mutation.value == serde_json::json!({});
        let lost = d.has("delegation-extra") || d.sort() == Sort::Insert || empty;
        let float = d.sort() == Sort::Insert && d.ours_say("a number with fraction");
        float || lost && d.their_kind() == Some(Kind::Signatures)
    }),
    tough("null-members", |d| d.has_null_member() && d.their_kind() == Some(Kind::Signatures)),
    tough("normalises", |d| {
        (d.has("unnormalised") || d.case.mutation.value.to_string().contains('\u{301}'))
            && d.their_kind() == Some(Kind::Signatures)
    }),
    tough("globs", |d| d.has("brackets") && d.theirs_say("error parsing glob")),
    // ------------------------------------------------------------ one role fails all
    tough("every-role", |d| d.name.is_none() && d.only_theirs_fails() && d.delegated_role_is_bad()),
    tough("out-of-scope", |d| d.theirs_say("Target file not delegated")),
    tough("not-in-snapshot", |d| {
        d.name.is_some() && d.theirs == Some(Answer::Absent) && d.some_role_is_unlisted()
    }),
    // ------------------------------------------------------------ tough searches in another way
    tough("star-crosses-slash", |d| {
        d.name.is_some_and(|name| d.any_pattern(|p| wide(p, name) && !plimsoll_core::tuf::matches(p, name)))
    }),
    tough("bytes", |d| {
        d.name.is_some_and(|name| !name.is_ascii() && d.any_pattern(|pattern| pattern.contains('?')))
    }),
    tough("second-way", |d| {
        let found = d.ours == Some(Answer::Absent) && d.their_kind().is_none();
        let lost = d.theirs == Some(Answer::Absent);
        d.name.is_some() && d.has("second-way") && (found || lost || d.has("other-keys"))
    }),
    // ------------------------------------------------------------ tough is less strict
    tough("equal-versions", |d| {
        d.ours_say("was seen before with other content")
            || d.stage > 0 && d.equal_versions() && (d.our_kind().is_none() || d.one_is_left_behind())
    }),
    tough("downloads-again", |d| d.name.is_none() && d.only_theirs_fails() && d.file_was_held()),
    tough("one-key-two-ids", |d| d.sort() == Sort::TwoIds && d.our_kind() == Some(Kind::Signatures)),
    tough("upper-case-hex", |d| d.has_upper_case_hex() && d.our_kind() == Some(Kind::Signatures)),
    tough("duplicate-members", |d| d.sort() == Sort::Duplicate && d.duplicate_counts()),
    tough("empty-prefix", |d| d.name.is_some() && d.has_empty_prefix()),
    tough("spec-version", |d| d.ours_say("spec_version") && d.only_ours_fails(Kind::Malformed)),
    tough("held-by-hash", |d| d.stage > 0 && d.held_file_is_refused()),
    tough("large-integers", |d| d.ours_say("an integer out of range") || d.held_large_version()),
    tough("added-key-resets", |d| {
        d.ours_say("seen before") && d.roots_were_added() && d.our_kind() == Some(Kind::Version)
    }),
    tough("length-is-a-limit", |d| d.ours_say("bytes where") && d.only_ours_fails(Kind::Mismatch)),
    tough("other-hashes", |d| {
        let other = d.path_has("hashes") && !d.path_has("sha256");
        other && d.our_kind().is_some() && d.theirs_hold()
    }),
    tough("type", |d| (d.ours_say("_type") || d.path_has("_type")) && d.only_ours_fails(Kind::Malformed)),
    tough("missing-role", |d| d.ours_say("root: no role") && d.only_ours_fails(Kind::Malformed)),
    tough("x-plimsoll", |d| d.path_has("x-plimsoll") && d.our_kind().is_some()),
    // ------------------------------------------------------------ how tough is run here
    tough("system-clock", |d| {
        d.sort() == Sort::Expiry && d.our_kind() == Some(Kind::Expired) && d.expires_about_now()
    }),
];

impl Divergence<'_> {
    fn sort(&self) -> Sort {
        self.case.mutation.sort
    }

    fn has(&self, feature: &str) -> bool {
        self.case.features.contains(feature)
    }

    fn our_kind(&self) -> Option<Kind> {
        failure(self.ours.as_ref()).map(|(kind, _)| kind)
    }

    fn their_kind(&self) -> Option<Kind> {
        failure(self.theirs.as_ref()).map(|(kind, _)| kind)
    }

    fn ours_say(&self, words: &str) -> bool {
        failure(self.ours.as_ref()).is_some_and(|(_, text)| text.contains(words))
    }

    fn theirs_say(&self, words: &str) -> bool {
        failure(self.theirs.as_ref()).is_some_and(|(_, text)| text.contains(words))
    }

    fn only_theirs_fails(&self) -> bool {
        self.our_kind().is_none() && self.their_kind().is_some()
    }

    fn only_ours_fails(&self, kind: Kind) -> bool {
        self.our_kind() == Some(kind) && self.their_kind().is_none()
    }

    fn theirs_hold(&self) -> bool {
        self.their_kind().is_none()
    }

    fn repository(&self) -> &Repository {
        &self.case.generations[self.case.stages[self.stage].generation]
    }

    fn mutated(&self) -> bool {
        self.case.stages[self.stage].mutated
    }

    fn has_bins(&self) -> bool {
        self.repository().roles.values().any(|role| role.bins.is_some())
    }

    fn any_pattern(&self, is: impl Fn(&str) -> bool) -> bool {
        let children = self.repository().roles.values().flat_map(|role| &role.children);
        children.flat_map(|child| patterns(&child.paths)).any(|pattern| is(pattern))
    }

    /// The mutation is one of what stands in `signatures`.
    fn touches_signatures(&self) -> bool {
        matches!(self.sort(), Sort::Signatures(_) | Sort::Flip)
            || self.case.mutation.path.first() == Some(&Seg::Member("signatures".to_owned()))
    }

    fn path_has(&self, member: &str) -> bool {
        self.case.mutation.path.contains(&Seg::Member(member.to_owned()))
    }

    /// One of the two cannot go on from where an equivocation left it: what it holds does not fit what it is shown.
    fn one_is_left_behind(&self) -> bool {
        let stuck = |kind| matches!(kind, Some(Kind::Mismatch | Kind::Missing | Kind::Unlisted));
        stuck(self.our_kind()) || stuck(self.their_kind()) || self.ours_say("is listed")
    }

    /// A member stands twice, and we refused that, now or before.
    fn duplicate_counts(&self) -> bool {
        let stuck = self.stage > 0 && self.their_kind() == Some(Kind::Version) && self.only_theirs_fails();
        // What it took at an earlier stage may still be what it holds.
        self.our_kind() == Some(Kind::Malformed) || stuck || self.stage > 0 && self.name.is_some()
    }

    /// A delegation lists a hash prefix of no digits.
    fn has_empty_prefix(&self) -> bool {
        let children = self.repository().roles.values().flat_map(|role| &role.children);
        children.into_iter().any(|child| match &child.paths {
            Paths::Patterns(_) => false,
            Paths::HashPrefixes(prefixes) => prefixes.iter().any(String::is_empty),
        })
    }

    /// A held file has the hash that is listed, so that we do not ask for it, and is refused for another reason.
    fn held_file_is_refused(&self) -> bool {
        let refused = self.ours_say("is listed")
            || self.sort() == Sort::Replay && self.our_kind() == Some(Kind::Signatures);
        refused && self.their_kind() == Some(Kind::Missing)
    }

    /// An optional member is `null`.
    fn has_null_member(&self) -> bool {
        self.sort() == Sort::Retype && self.case.mutation.value.is_null()
    }

    fn touches(&self, document: &str) -> bool {
        self.case.mutation.documents.iter().any(|touched| touched == document)
    }

    /// Somewhere META names a version without its sha256.
    fn lists_no_sha256(&self) -> bool {
        !self.repository().snapshot_meta.sha256 || !self.repository().timestamp_meta.sha256
    }

    /// Between what was shown before and now the root chain grew.
    fn roots_were_added(&self) -> bool {
        self.stage > 0 && self.case.generations[0].roots.len() < self.case.generations[1].roots.len()
    }

    /// An integer was shown before that is none for us.
    fn held_large_version(&self) -> bool {
        let large = self.case.mutation.value.as_u64().is_some_and(|value| i64::try_from(value).is_err());
        large && self.stage > 0
    }

    /// A signature has digits of upper case, by mutation or by a flip of the one bit that does it.
    fn has_upper_case_hex(&self) -> bool {
        match self.sort() {
            Sort::Signatures(Signatures::UpperCase) => true,
            Sort::Change => self.touches_signatures(),
            Sort::Flip => {
                let stages = self.case.stages.iter().filter(|stage| stage.mutated);
                stages.into_iter().any(|stage| {
                    let flipped = self.case.mutation.flipped(&stage.files);
                    flipped.is_some_and(|byte| byte.is_ascii_uppercase())
                })
            }
            _ => false,
        }
    }

    /// The owners' time is between the time of the test and that of the system.
    fn expires_about_now(&self) -> bool {
        let value = self.case.mutation.value.as_str().unwrap_or_default();
        value == NOW || value.starts_with("2089-")
    }

    /// We could not have, or refused, a file that a client need not ask for again if a version is enough for it.
    fn held_would_do(&self) -> bool {
        match self.our_kind() {
            Some(Kind::Missing | Kind::Malformed | Kind::Signatures | Kind::Mismatch | Kind::Expired) => true,
            Some(Kind::Version) => self.ours_say("is listed"),
            _ => false,
        }
    }

    /// A role below `targets` was tampered with, or what META says of it; or it is expired, or signed by the keys of one
    /// of its delegators only.
    fn delegated_role_is_bad(&self) -> bool {
        let touched = self.case.mutation.documents.iter().any(|document| is_delegated(document));
        let delegation = self.path_has("delegations");
        self.mutated() && (touched || delegation || self.meta_of_delegated_role())
            || self.has("expired-role") && self.their_kind() == Some(Kind::Expired)
            || self.has("other-keys") && self.their_kind() == Some(Kind::Signatures)
    }

    /// The mutation is one of what a snapshot says of a role below `targets`.
    fn meta_of_delegated_role(&self) -> bool {
        let path = &self.case.mutation.path;
        let listed = path.iter().position(|seg| *seg == Seg::Member("meta".to_owned()));
        match listed.and_then(|at| path.get(at + 1)) {
            Some(Seg::Member(file)) => file.strip_suffix(".json").is_some_and(is_delegated),
            _ => false,
        }
    }

    /// A role is delegated to and in no snapshot.
    fn some_role_is_unlisted(&self) -> bool {
        let renamed = self.path_has("roles") && self.path_has("name");
        self.repository().roles.values().any(|role| role.unpublished)
            || self.mutated() && (self.meta_of_delegated_role() || renamed)
    }

    /// A document was shown, until now, in two forms of one version.
    fn equal_versions(&self) -> bool {
        let shown = |stage: &Stage, document: &str| {
            let bytes = stage.files.bytes.get(stage.files.names.get(document)?)?.clone();
            let value: Value = serde_json::from_slice(&bytes).ok()?;
            Some((value["signed"]["version"].as_u64()?, bytes))
        };
        let stages = &self.case.stages[..=self.stage];
        let documents = self.case.generations[1].documents();
        documents.iter().any(|document| {
            let forms: Vec<_> = stages.iter().filter_map(|stage| shown(stage, document)).collect();
            forms.iter().any(|(version, bytes)| {
                forms.iter().any(|(other_version, other)| version == other_version && bytes != other)
            })
        })
    }

    /// The file that was tampered with is one that the client had before, and META did not follow.
    fn file_was_held(&self) -> bool {
        let mutation = &self.case.mutation;
        let file =
            |files: &'_ Files, document: &str| Some(files.bytes.get(files.names.get(document)?)?.clone());
        let held = |document: &String| {
            let held = file(&self.case.stages[0].files, document);
            held.is_some() && held == file(&self.case.clean, document)
        };
        self.mutated()
            && self.stage == 1
            && (!mutation.cascaded || self.lists_no_sha256())
            && (mutation.sort == Sort::Replay || mutation.documents.iter().any(held))
            // META that names the version it named before.
            || self.mutated()
                && self.stage == 1
                && (self.touches("timestamp") || self.touches("snapshot"))
                && matches!(self.their_kind(), Some(Kind::Missing | Kind::Version))
    }
}

fn failure(answer: Option<&Answer>) -> Option<(Kind, &str)> {
    match answer {
        Some(Answer::Failed(failure)) => Some((failure.kind, &failure.text)),
        _ => None,
    }
}

fn is_delegated(document: &str) -> bool {
    root_version(document).is_none() && !TOP.contains(&document)
}

fn patterns(paths: &Paths) -> &[String] {
    match paths {
        Paths::Patterns(patterns) => patterns,
        Paths::HashPrefixes(_) => &[],
    }
}

/// A pattern with brackets and a name that it could be about: one of as many segments.
fn bracketed(pattern: &str, name: &str) -> bool {
    pattern.split('/').count() == name.split('/').count()
}

/// True if `pattern` matches `name` where `*` and `?` stand for `/` as well.
fn wide(pattern: &str, name: &str) -> bool {
    // No name of ours has this character.
    plimsoll_core::tuf::matches(&pattern.replace('/', "\u{1}"), &name.replace('/', "\u{1}"))
}
