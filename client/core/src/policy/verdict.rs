//! The one verdict of every surface: command line, JSON, hooks, metrics.

use std::fmt;

use serde::Serialize;

use crate::tuf;

/// What Plimsoll says of a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// The publisher means this digest now.
    Verified,
    /// Fresh proof that nobody signed it.
    Absent,
    /// The registry has no such manifest.
    NoSuchTag,
    /// The signed digest is not the one presented.
    Mismatch,
    /// Taken back by its publisher.
    Revoked,
    /// Required roots disagree.
    Conflict,
    /// The policy forbids it.
    PolicyDeny,
    /// No scope of the policy covers it.
    NoPolicy,
    /// Metadata is past its expiry: a freeze, or a dead signer.
    Expired,
    /// Metadata is older than what was seen.
    Rollback,
    /// A signature, threshold or document is wrong.
    Untrusted,
    /// The registry did not answer, or not usefully.
    Unreachable,
    /// The registry wants other credentials.
    Auth,
}

impl Verdict {
    /// The exit code of the command line.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Verified => 0,
            Self::Absent => 10,
            Self::NoSuchTag => 11,
            Self::Mismatch => 12,
            Self::Revoked => 14,
            Self::Conflict => 15,
            Self::PolicyDeny => 16,
            Self::NoPolicy => 17,
            Self::Expired => 20,
            Self::Rollback => 21,
            Self::Untrusted => 22,
            Self::Unreachable => 30,
            Self::Auth => 31,
        }
    }

    /// All verdicts, the gravest first: what is an alarm, what the policy refuses, what nobody vouches for, what may be
    /// tried again; [`Verdict::Verified`] last.
    pub const BY_GRAVITY: [Self; 13] = [
        Self::Revoked,
        Self::Untrusted,
        Self::Rollback,
        Self::Mismatch,
        Self::Conflict,
        Self::Expired,
        Self::PolicyDeny,
        Self::NoPolicy,
        Self::NoSuchTag,
        Self::Absent,
        Self::Auth,
        Self::Unreachable,
        Self::Verified,
    ];

    /// The gravest of `verdicts`; none if there is none.
    pub fn gravest(verdicts: impl IntoIterator<Item = Self>) -> Option<Self> {
        verdicts.into_iter().min_by_key(|verdict| Self::BY_GRAVITY.iter().position(|grave| grave == verdict))
    }

    /// The name as it is printed, for example `NO_SUCH_TAG`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Verified => "VERIFIED",
            Self::Absent => "ABSENT",
            Self::NoSuchTag => "NO_SUCH_TAG",
            Self::Mismatch => "MISMATCH",
            Self::Revoked => "REVOKED",
            Self::Conflict => "CONFLICT",
            Self::PolicyDeny => "POLICY_DENY",
            Self::NoPolicy => "NO_POLICY",
            Self::Expired => "EXPIRED",
            Self::Rollback => "ROLLBACK",
            Self::Untrusted => "UNTRUSTED",
            Self::Unreachable => "UNREACHABLE",
            Self::Auth => "AUTH",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<&tuf::Error> for Verdict {
    /// Time, order and trust are told apart; none of them is ever `Unreachable` or `Absent`.
    fn from(error: &tuf::Error) -> Self {
        match error.without_floor() {
            tuf::Error::Expired { .. } => Self::Expired,
            tuf::Error::Rollback { .. } | tuf::Error::RoleRemoved { .. } => Self::Rollback,
            _ => Self::Untrusted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exit codes are an interface: docs/cli.md lists them.
    #[test]
    fn every_verdict_has_its_name_and_exit_code() {
        for (verdict, name, code) in [
            (Verdict::Verified, "VERIFIED", 0),
            (Verdict::Absent, "ABSENT", 10),
            (Verdict::NoSuchTag, "NO_SUCH_TAG", 11),
            (Verdict::Mismatch, "MISMATCH", 12),
            (Verdict::Revoked, "REVOKED", 14),
            (Verdict::Conflict, "CONFLICT", 15),
            (Verdict::PolicyDeny, "POLICY_DENY", 16),
            (Verdict::NoPolicy, "NO_POLICY", 17),
            (Verdict::Expired, "EXPIRED", 20),
            (Verdict::Rollback, "ROLLBACK", 21),
            (Verdict::Untrusted, "UNTRUSTED", 22),
            (Verdict::Unreachable, "UNREACHABLE", 30),
            (Verdict::Auth, "AUTH", 31),
        ] {
            assert_eq!((verdict.to_string().as_str(), verdict.exit_code()), (name, code));
            assert_eq!(serde_json::to_value(verdict).unwrap(), name);
        }
    }

    #[test]
    fn one_bad_verdict_is_not_outweighed_by_any_number_of_better_ones() {
        let all = Verdict::BY_GRAVITY;
        for (i, grave) in all.iter().enumerate() {
            assert_eq!(Verdict::gravest(all[i..].iter().rev().copied()), Some(*grave));
            assert_eq!(all.iter().filter(|other| *other == grave).count(), 1, "{grave} stands there once");
        }
        assert_eq!(Verdict::gravest([]), None);
        // The failures of roots keep the order in which they are reported.
        let failures =
            [Verdict::Untrusted, Verdict::Rollback, Verdict::Expired, Verdict::Auth, Verdict::Unreachable];
        assert!(failures.is_sorted_by_key(|failure| all.iter().position(|grave| grave == failure)));
    }

    #[test]
    fn what_is_expired_or_older_is_told_from_what_is_not_trusted() {
        let role = || "targets".to_owned();
        let expires = chrono::DateTime::UNIX_EPOCH;
        for (error, verdict) in [
            (tuf::Error::Expired { role: role(), version: 1, expires }, Verdict::Expired),
            (tuf::Error::Rollback { role: role(), held: 2, offered: 1 }, Verdict::Rollback),
            (tuf::Error::RoleRemoved { role: role() }, Verdict::Rollback),
            (
                tuf::Error::Floor {
                    floor: "the floor f.json".to_owned(),
                    unmet: Box::new(tuf::Error::Rollback { role: role(), held: 2, offered: 1 }),
                },
                Verdict::Rollback,
            ),
            (tuf::Error::Order { role: role(), missing: "root" }, Verdict::Untrusted),
        ] {
            assert_eq!(Verdict::from(&error), verdict, "{error}");
        }
    }
}
