//! File systems that only programs started here see, and that are gone when the test is, however it ends.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::process::{Run, run};

/// A mount namespace of its own; gone, with all that was mounted in it, when dropped, or when this process ends.
#[derive(Debug)]
pub struct Mounts {
    keeper: Child,
}

impl Mounts {
    /// A namespace with the mounts there are now.
    ///
    /// # Panics
    /// If mounting is not permitted: it takes root (`CAP_SYS_ADMIN`).
    pub fn new() -> Self {
        let script = "mount -t tmpfs none /mnt && umount /mnt && echo ready && read -r _";
        let mut keeper = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script])
            // It waits for a line that never comes: the end of this process is the end of its input.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("`unshare` is there (util-linux)");
        let mut line = String::new();
        let stdout = keeper.stdout.as_mut().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a pipe can be read");
        if line != "ready\n" {
            let mut said = String::new();
            let _ = keeper.stderr.take().expect("stderr is piped").read_to_string(&mut said);
            let _ = keeper.wait();
            panic!(
                "this test needs a full disk and a read-only one, so it mounts file systems in a mount namespace of its \
                 own; that is not permitted here: {said}run it as root (CAP_SYS_ADMIN, in a container with `mount`)"
            );
        }
        Self { keeper }
    }

    /// The words before a program that run it in here.
    pub fn enter(&self) -> [String; 2] {
        ["nsenter".to_owned(), format!("--mount=/proc/{}/ns/mnt", self.keeper.id())]
    }

    /// Runs the shell script `script` in here, with `path` as `$0`.
    ///
    /// # Panics
    /// With what it said, if it failed.
    pub fn shell(&self, script: &str, path: &Path) -> Run {
        let [program, flag] = self.enter();
        run(Command::new(program).args([&flag, "sh", "-euc", script]).arg(path), b"").ok()
    }

    /// Where `path`, as it is in here, can be read and written from outside.
    ///
    /// # Panics
    /// If `path` is relative.
    pub fn from_outside(&self, path: &Path) -> PathBuf {
        let path = path.strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(self.keeper.id().to_string()).join("root").join(path)
    }
}

impl Default for Mounts {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}
