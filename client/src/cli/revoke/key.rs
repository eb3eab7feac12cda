//! `revoke --key-id`.

use plimsoll_core::oci::{Digest, TargetName};

use super::Args;
use crate::{
    cli::{Env, Failure, Out, ask::confirm, delegate::lines, key::signers},
    publish::{Content, Expected, How, KeyRevoked, RevokeKeyRequest},
};

/// As many names are looked up in the registry afterwards.
const LOOKED_UP: usize = 4;

pub(super) async fn run(env: &Env, out: &Out, args: &Args, reason: String) -> Result<u8, Failure> {
    let key = args.key_id.clone().expect("clap wants a reference or a key id");
    let desk = args.place.desk(env, None).await?;
    let keys = args.signer.open()?;
    let signers = signers(&keys);
    let how = How { signers: &signers, draft: args.place.draft.is_some() };
    let request = RevokeKeyRequest { key, role: args.role.clone(), reason };
    let plan = desk.publisher.plan_key_revocation(&request, how).await?;
    told(&plan).iter().for_each(|line| out.aside(line));
    let question =
        format!("take {} out of {} and take back {} names?", plan.key, roles(&plan), plan.revoked.len());
    confirm(&question, args.yes || how.draft)?;
    let done = desk.publisher.revoke_key(&request, &plan, how).await?;
    let expected = |revoked: &KeyRevoked| -> Vec<(TargetName, Digest)> {
        let names = revoked.revoked.iter();
        let parsed = names.filter_map(|vouched| Some((vouched.name.parse().ok()?, vouched.digest?)));
        parsed.take(LOOKED_UP).collect()
    };
    let names = expected(&plan);
    let expected =
        |_: &KeyRevoked| names.iter().map(|(name, digest)| Expected::Revoked(name, *digest)).collect();
    let words = |revoked: &KeyRevoked| {
        let mut notes = told(revoked);
        notes.push("clients read REVOKED from their next update on; stop what runs it already".to_owned());
        (format!("revoked key {} of {}", revoked.key, roles(revoked)), notes)
    };
    args.place.conclude(env, out, &desk, &done, expected, words).await
}

fn roles(revoked: &KeyRevoked) -> String {
    revoked.roles.iter().map(|role| role.role.as_str()).collect::<Vec<_>>().join(", ")
}

/// What it means to the names.
fn told(revoked: &KeyRevoked) -> Vec<String> {
    let mut notes = Vec::new();
    if revoked.revoked.is_empty() {
        notes.push("nothing is taken back: somebody else vouches for all of it, too".to_owned());
    } else {
        notes.push("taken back, since nobody else vouched for it:".to_owned());
        notes.extend(lines(&revoked.revoked));
    }
    if !revoked.dropped.is_empty() {
        notes.push("left out, though others vouch for the same digest under another name:".to_owned());
        notes.extend(lines(&revoked.dropped));
    }
    for role in revoked.roles.iter().filter(|role| !role.unvouched_below.is_empty()) {
        let below = role.unvouched_below.join(", ");
        notes.push(if role.content == Content::Signed {
            format!(
                "delegations of {} that nobody else vouched for are withdrawn for good: {below}",
                role.role
            )
        } else {
            format!(
                "nobody else vouched for what {} delegates to {below}: take it out when it is signed",
                role.role
            )
        });
    }
    for role in &revoked.roles {
        match role.content {
            Content::None | Content::Stands => {}
            Content::Signed => notes.push(format!("{} is signed anew, with a full life", role.role)),
            Content::Unsigned => notes.push(format!(
                "the other names of {} read UNTRUSTED until its keys sign: plimsoll delegate rotate {} --key FILE",
                role.role, role.role
            )),
        }
    }
    notes
}
