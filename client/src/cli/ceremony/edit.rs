//! `ceremony edit`.

use std::path::PathBuf;

use url::Url;

use super::{load, made, named};
use crate::{
    cli::{
        Env, Failure, Out,
        init::{next_online_keys, show_online},
        place::{Where, write_draft},
        servers,
    },
    publish::{
        RootRequest,
        author::{RoleEdit, RootEdit},
        draft::Draft,
        edit_first,
    },
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Where the draft is written; one that is there and that nobody signed is changed further
    #[arg(long, value_name = "FILE")]
    draft: PathBuf,
    /// The pinned root, by its name in the policy; else the only one
    #[arg(long, value_name = "NAME")]
    trust: Option<String>,
    /// URL of the plimsolld; else the one remembered by init
    #[arg(long, value_name = "URL", env = servers::variable(), value_parser = servers::url)]
    server: Option<Url>,
    /// Read from the registry, where the plimsolld cannot be reached
    #[arg(long)]
    via_registry: bool,
    /// This public key signs the root from now on; once for each
    #[arg(long, value_name = "FILE")]
    add_root_pub: Vec<PathBuf>,
    /// This key signs the root no more: its name, its id, or the beginning of it
    #[arg(long, value_name = "KEY")]
    remove_root_key: Vec<String>,
    /// How many keys must sign the root
    #[arg(long, value_name = "N")]
    root_threshold: Option<u64>,
    /// This public key signs `targets` from now on
    #[arg(long, value_name = "FILE")]
    add_targets_pub: Vec<PathBuf>,
    /// This key signs `targets` no more
    #[arg(long, value_name = "KEY")]
    remove_targets_key: Vec<String>,
    /// How many keys must sign `targets`
    #[arg(long, value_name = "N")]
    targets_threshold: Option<u64>,
    /// This public key signs both root and `targets` from now on
    #[arg(long, value_name = "FILE")]
    add_owner_pub: Vec<PathBuf>,
    /// This key signs neither root nor `targets` any more
    #[arg(long, value_name = "KEY")]
    remove_owner_key: Vec<String>,
    /// JSON file with the online keys that the daemon shall sign with from now on, as `plimsolld key rotate` writes it
    #[arg(long, value_name = "FILE")]
    online_pub: Option<PathBuf>,
    /// Let the daemon sign with the online keys that its operator made to take the place of the present ones
    #[arg(long, conflicts_with_all = ["online_pub", "via_registry"])]
    online: bool,
    /// Give the root a full life again, one year
    #[arg(long)]
    extend: bool,
    /// Give `targets` a full life again, one year
    #[arg(long)]
    extend_targets: bool,
}

pub(super) async fn run(env: &Env, out: &Out, args: &Args) -> Result<(), Failure> {
    let file = &args.draft;
    let mut request = request(args)?;
    let onto = if file.symlink_metadata().is_ok() { Some(editable(env, args)?) } else { None };
    let draft = match &onto {
        Some(first) if first.is_first() && args.online => {
            let text = "a trust repository that is not made yet has no next online keys".to_owned();
            return Err(Failure::usage(text).next("give --online-pub FILE"));
        }
        Some(first) if first.is_first() => edit_first(first, &request, env.clock.now())?,
        onto => {
            let place = Where {
                trust: args.trust.clone(),
                server: args.server.clone(),
                via_registry: args.via_registry,
                ..Where::default()
            };
            let desk = place.desk(env, None).await?;
            if args.online {
                let online = desk.publisher.next_online().await?;
                show_online(out, &online);
                request.edit.online = Some(online);
            }
            desk.publisher.edit_root(&request, onto.as_ref()).await?
        }
    };
    write_draft(file, &draft, onto.is_some())?;
    made(env, out, file, &draft)
}

/// The draft that is there already.
fn editable(env: &Env, args: &Args) -> Result<Draft, Failure> {
    let (file, draft) = (args.draft.display(), load(env, &args.draft)?);
    if !draft.is_unsigned() {
        let text = format!("`{file}` is signed already, and signatures are over what it says now");
        return Err(
            Failure::usage(text).next("make this change in a draft of its own, or finish that one first")
        );
    }
    if draft.versions().keys().any(|role| !matches!(role.as_str(), "root" | "targets")) {
        return Err(
            Failure::usage(format!("`{file}` holds another change")).next("give --draft another name")
        );
    }
    Ok(draft)
}

fn request(args: &Args) -> Result<RootRequest, Failure> {
    let owners = named(&args.add_owner_pub, &[])?;
    let role = |public: &[PathBuf], remove: &[String], threshold| {
        let mut add = named(public, &owners)?;
        add.extend(owners.iter().cloned());
        let remove = remove.iter().chain(&args.remove_owner_key).cloned().collect();
        Ok::<_, Failure>(RoleEdit { add, remove, threshold })
    };
    let root = role(&args.add_root_pub, &args.remove_root_key, args.root_threshold)?;
    let targets = role(&args.add_targets_pub, &args.remove_targets_key, args.targets_threshold)?;
    // A key that both get by files of their own is one key under one name, too.
    named(&args.add_targets_pub, &root.add)?;
    let online = args.online_pub.as_deref().map(next_online_keys).transpose()?;
    let edit = RootEdit { root, targets, online, extend: args.extend };
    if edit.is_empty() && !args.extend_targets && !args.online {
        return Err(Failure::usage("nothing is to be changed".to_owned())
            .next("say what, for example --add-root-pub FILE; `plimsoll ceremony edit --help` lists it"));
    }
    Ok(RootRequest { edit, extend_targets: args.extend_targets })
}
