//! Makes the keys of `keys-example/` anew: `cargo run -p plimsoll --example make-example-keys [FOLDER]`.
//!
//! The daemon refuses the ids in `key-ids.txt`, so it must be built again afterwards.

use std::{fs, io, path::PathBuf};

use plimsoll::keys::{Algorithm, Passphrase, PrivateKey, Signer, save_public};

const PASSPHRASE: &str = "example";
const NAMES: [&str; 4] = ["owner", "team", "timestamp", "snapshot"];

fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| "keys-example".into()));
    fs::create_dir_all(&folder)?;
    let passphrase = Passphrase::new(PASSPHRASE.to_owned())?;
    let mut ids = String::from(
        "# Key ids of the example keys. Everybody has the private halves: plimsolld refuses them.\n",
    );
    for name in NAMES {
        let (private, public) = (folder.join(format!("{name}.key")), folder.join(format!("{name}.pub")));
        for path in [&private, &public] {
            // Key files are never overwritten, and here that is what is wanted.
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
                _ => {}
            }
        }
        let key = PrivateKey::generate(Algorithm::Ed25519)?;
        key.save(&private, &passphrase)?;
        save_public(&public, key.public())?;
        ids.push_str(&format!("{}  {name}\n", key.key_id()));
    }
    fs::write(folder.join("key-ids.txt"), ids)?;
    fs::write(folder.join("passphrase.txt"), format!("{PASSPHRASE}\n"))?;
    Ok(())
}
