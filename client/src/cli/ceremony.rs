//! `ceremony`: what several people sign, apart in place and time. All but `edit` and `finish` work without a network.

mod edit;
mod finish;
mod sign;

use std::path::{Path, PathBuf};

use plimsoll_core::{
    oci::Digest,
    tuf::{Document, Key, Root},
};
use serde::Serialize;

use super::{
    Env, Failure, Out,
    delegate::granted,
    output::complain,
    place::{still_to_sign, write_draft},
};
use crate::{
    keys::load_public,
    publish::{
        PublishError,
        author::Granted,
        draft::{Draft, DraftError, MAX_DRAFT, Requirement, words},
    },
    state::{read, replace},
    trust::{TrustError, load_policy, load_root, newest_root},
    verify::printable,
};

/// A signature that was made elsewhere may be this long, bytes.
const MAX_SIGNATURE: u64 = 16 * 1024;
/// Of changed names, more lines of one kind are only counted, but where somebody asks for the draft's status.
const MOST: usize = 20;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Draft a change of who holds the trust repository: keys, thresholds, the daemon's keys, expiry
    Edit(Box<edit::Args>),
    /// Show what a draft changes, and sign it; needs no network
    Sign(sign::Args),
    /// Show what a draft changes, who signed it and who is missing; needs no network
    Status {
        /// The draft
        draft: PathBuf,
    },
    /// Take over the signatures of other copies of the same draft; needs no network
    Merge {
        /// The draft that gets them
        draft: PathBuf,
        /// Copies of it that others signed
        #[arg(required = true)]
        other: Vec<PathBuf>,
    },
    /// Write out what must be signed, for keys that plimsoll cannot reach; needs no network
    Payload {
        /// The draft
        draft: PathBuf,
        /// The role whose document is to be signed
        #[arg(long)]
        role: String,
        /// Where to write it
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Put in a signature over `payload` that was made elsewhere; needs no network
    Attach {
        /// The draft
        draft: PathBuf,
        /// The role whose document was signed
        #[arg(long)]
        role: String,
        /// The public key that it was signed with
        #[arg(long = "pub", value_name = "FILE")]
        public: PathBuf,
        /// The signature: raw for Ed25519 and RSA (PSS), DER for ECDSA
        #[arg(long, value_name = "FILE")]
        signature: PathBuf,
    },
    /// Check a draft, rehearse it, publish it, and wait until clients see it
    Finish(finish::Args),
}

/// A draft, as all these commands show it.
#[derive(Serialize)]
struct Shown<'a> {
    draft: &'a Path,
    trust: &'a str,
    repository: &'a str,
    code: String,
    complete: bool,
    versions: std::collections::BTreeMap<String, u64>,
    changes: Vec<String>,
    requirements: Vec<Requirement>,
}

pub(super) async fn run(env: &Env, out: &Out, command: Command) -> Result<u8, Failure> {
    match command {
        Command::Edit(args) => edit::run(env, out, &args).await?,
        Command::Sign(args) => sign::run(env, out, &args).await?,
        Command::Status { draft } => status(env, out, &draft)?,
        Command::Merge { draft, other } => merge(env, out, &draft, &other)?,
        Command::Payload { draft, role, out: file } => payload(env, out, (&draft, &role), &file).await?,
        Command::Attach { draft, role, public, signature } => {
            attach(env, out, (&draft, &role), &public, &signature)?;
        }
        Command::Finish(args) => finish::run(env, out, &args).await?,
    }
    Ok(0)
}

fn status(env: &Env, out: &Out, file: &Path) -> Result<(), Failure> {
    let draft = load(env, file)?;
    let mut notes = words(&draft, env.clock.now(), usize::MAX);
    notes.extend(unknown(env, &draft)?);
    notes.extend(progress(file, &draft));
    let head = if draft.is_complete() { "complete, not published" } else { "waits for signatures" };
    show(env, out, file, &draft, &format!("{}: {head}", file.display()), &notes)
}

fn merge(env: &Env, out: &Out, file: &Path, others: &[PathBuf]) -> Result<(), Failure> {
    let mut draft = load(env, file)?;
    let mut new = 0;
    for other in others {
        let read = load(env, other)?;
        new += draft.merge(&read).map_err(|error| about(other, error))?;
    }
    write_draft(file, &draft, true)?;
    let head = format!("{}: {new} new signatures", file.display());
    show(env, out, file, &draft, &head, &progress(file, &draft))
}

async fn payload(env: &Env, out: &Out, (file, role): (&Path, &str), to: &Path) -> Result<(), Failure> {
    let draft = load(env, file)?;
    not_behind(env, file, &draft).await?;
    let payload = draft.payload(role).map_err(|error| about(file, error))?;
    if to.symlink_metadata().is_ok() {
        return Err(Failure::usage(format!("`{}` exists already and is not overwritten", to.display())));
    }
    std::path::absolute(to)
        .and_then(|path| replace(&path, &payload, 0o644))
        .map_err(|error| Failure::internal(format!("cannot write {}: {error}", to.display())))?;
    let mut notes = words(&draft, env.clock.now(), usize::MAX);
    notes.extend(unknown(env, &draft)?);
    notes.push(format!(
        "sign these {} bytes as they are, then: plimsoll ceremony attach {} --role {role} --pub KEY.pub --signature FILE",
        payload.len(),
        file.display()
    ));
    show(env, out, file, &draft, &format!("wrote {}: {role} of {}", to.display(), file.display()), &notes)
}

fn attach(
    env: &Env,
    out: &Out,
    (file, role): (&Path, &str),
    public: &Path,
    signature: &Path,
) -> Result<(), Failure> {
    let mut draft = load(env, file)?;
    let id = Key::new(&load_public(public)?).id();
    let bytes = bytes(signature, MAX_SIGNATURE)?;
    draft.attach(role, &id, &bytes).map_err(|error| match error {
        DraftError::Signature { .. } => Failure::usage(format!(
            "`{}` is not a signature of `{}` over {role} of this draft",
            signature.display(),
            public.display()
        ))
        .next("sign what `plimsoll ceremony payload` writes, byte for byte"),
        error => about(file, error),
    })?;
    write_draft(file, &draft, true)?;
    let head = format!("{}: {role} signed by {}", file.display(), id.short());
    show(env, out, file, &draft, &head, &progress(file, &draft))
}

/// Reads and checks a draft; it must go on from the roots of its trust repository that are pinned here, if there are any.
fn load(env: &Env, file: &Path) -> Result<Draft, Failure> {
    let draft = Draft::read(&bytes(file, MAX_DRAFT)?).map_err(|error| about(file, error))?;
    for (_, root) in pinned(env, draft.trust_id())? {
        draft.check_pinned(&root).map_err(|error| about(file, error))?;
    }
    Ok(draft)
}

/// Refuses a draft that ends before the newest root seen here: who held keys then could show any past with them.
async fn not_behind(env: &Env, file: &Path, draft: &Draft) -> Result<(), Failure> {
    for (name, _) in pinned(env, draft.trust_id())?.iter().filter(|_| !draft.is_first()) {
        if let Some(newest) = newest_root(&env.home, name).await? {
            draft.check_newest(&newest).map_err(|error| about(file, error))?;
        }
    }
    Ok(())
}

/// The names and documents of the roots pinned here that have this trust id; none without a policy.
fn pinned(env: &Env, trust: &str) -> Result<Vec<(String, Vec<u8>)>, TrustError> {
    let policy = match load_policy(&env.home) {
        Err(TrustError::NoPolicy { .. }) => return Ok(Vec::new()),
        policy => policy?,
    };
    let mut found = Vec::new();
    for (name, entry) in &policy.root {
        let bytes = load_root(&env.home, entry)?;
        let root = Document::<Root>::parse("root", &bytes).ok();
        let id = root.and_then(|root| root.signed.common.identity).map(|identity| identity.trust);
        if id.as_deref() == Some(trust) {
            found.push((name.clone(), bytes));
        }
    }
    Ok(found)
}

/// What to say of a draft whose past nobody here vouches for.
fn unknown(env: &Env, draft: &Draft) -> Result<Option<String>, TrustError> {
    let Some(first) = draft.roots().first() else { return Ok(None) };
    let sha256 = Digest::of(&first.bytes).hex();
    Ok(pinned(env, draft.trust_id())?.is_empty().then(|| {
        format!(
            "no root of it is pinned here: what it says was there before is worth as much as its root version {}, sha256 \
             {sha256}",
            first.version()
        )
    }))
}

fn bytes(file: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let cannot = |why: String| Failure::usage(format!("cannot read `{}`: {why}", file.display()));
    let bytes = read(file, limit).map_err(|error| cannot(error.to_string()))?;
    bytes.ok_or_else(|| cannot("there is no such file".to_owned()))
}

fn about(file: &Path, error: DraftError) -> Failure {
    let failure = Failure::from(PublishError::from(error));
    Failure { text: format!("`{}`: {}", file.display(), failure.text), ..failure }
}

/// Prints a draft as the result of a command.
fn show(
    env: &Env,
    out: &Out,
    file: &Path,
    draft: &Draft,
    head: &str,
    notes: &[String],
) -> Result<(), Failure> {
    let shown = Shown {
        draft: file,
        trust: draft.trust_id(),
        repository: draft.repository(),
        code: draft.code(),
        complete: draft.is_complete(),
        versions: draft.versions(),
        changes: words(draft, env.clock.now(), usize::MAX),
        requirements: draft.requirements(),
    };
    out.result(&shown, head, notes)
}

/// Prints a draft that was just made.
pub(super) fn made(env: &Env, out: &Out, file: &Path, draft: &Draft) -> Result<(), Failure> {
    let mut notes = some_words(env, file, draft);
    notes.extend(progress(file, draft));
    show(env, out, file, draft, &format!("wrote {}; nothing is published yet", file.display()), &notes)
}

/// Who signed, who is missing, and what comes next.
fn progress(file: &Path, draft: &Draft) -> Vec<String> {
    let mut notes = still_to_sign(draft);
    notes.push(format!("everybody who signs this draft must read the code {}", draft.code()));
    let (next, file) = if draft.is_complete() { ("finish", file) } else { ("sign", file) };
    let key = if draft.is_complete() { "" } else { " --key THEIR.key, by those who are missing" };
    notes.push(format!("next: plimsoll ceremony {next} {}{key}", file.display()));
    notes
}

/// What a draft changes, not too long for a screen, and how to see all of it.
fn some_words(env: &Env, file: &Path, draft: &Draft) -> Vec<String> {
    let now = env.clock.now();
    let (mut some, all) = (words(draft, now, MOST), words(draft, now, usize::MAX));
    if some != all {
        some.push(format!("all of it: plimsoll ceremony status {}", file.display()));
    }
    some
}

/// Shows what a draft changes before somebody is asked about it; also with `--quiet`, if somebody is.
fn tell(env: &Env, out: &Out, file: &Path, draft: &Draft, asked: bool) {
    for line in some_words(env, file, draft) {
        if asked { complain(&printable(&line)) } else { out.aside(&line) }
    }
}

/// The public keys in `files`, named after them. A key in `others` must have the same name there.
pub(super) fn named(files: &[PathBuf], others: &[Granted]) -> Result<Vec<Granted>, Failure> {
    let keys = granted(files)?.into_iter().map(|(key, name)| Granted { key: Key::new(&key), name });
    let keys: Vec<Granted> = keys.collect();
    for key in &keys {
        if let Some(other) = others.iter().find(|other| other.key == key.key && other.name != key.name) {
            let called = |key: &Granted| key.name.clone().unwrap_or_else(|| "nothing".to_owned());
            let text = format!("one key is given as `{}` and as `{}`", called(other), called(key));
            return Err(Failure::usage(text).next("give it once, or under one name"));
        }
    }
    Ok(keys)
}
