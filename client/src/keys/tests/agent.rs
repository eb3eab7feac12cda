//! Keys in an ssh-agent: OpenSSH's own, and ones that answer anything.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixListener,
    process::{Child, Stdio},
    thread,
};

use super::*;

/// A real ssh-agent, ended when this is dropped.
struct RealAgent {
    dir: TempDir,
    child: Child,
}

impl RealAgent {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new("ssh-agent")
            .args(["-D", "-s", "-a"])
            .arg(dir.path().join("socket"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("these tests need ssh-agent");
        // It tells its socket once it listens there.
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("SSH_AUTH_SOCK="), "{line}");
        Self { dir, child }
    }

    /// A new key of that kind, added under `comment`; its public file.
    fn add(&self, kind: &str, comment: &str) -> PathBuf {
        let file = self.dir.path().join(format!("{kind}-{}", fs::read_dir(self.dir.path()).unwrap().count()));
        self.run(
            Command::new("ssh-keygen").args(["-q", "-N", "", "-t", kind, "-C", comment, "-f"]).arg(&file),
        );
        self.run(Command::new("ssh-add").arg("-q").arg(&file));
        file.with_extension("pub")
    }

    fn run(&self, command: &mut Command) -> String {
        let output = command.env("SSH_AUTH_SOCK", self.dir.path().join("socket")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn agent(&self) -> Agent {
        Agent::at(&self.dir.path().join("socket"))
    }
}

impl Drop for RealAgent {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn a_key_of_the_real_agent_is_chosen_in_each_way_and_signs() {
    let real = RealAgent::start();
    assert_eq!(real.agent().keys().unwrap().len(), 0);
    let alice = real.add("ed25519", "alice@laptop");
    real.add("ed25519", "bob");
    real.add("ecdsa", "alice@laptop");
    let public = load_public(&alice).unwrap();
    let id = Key::new(&public).id();
    let shown = real.run(Command::new("ssh-keygen").arg("-lf").arg(&alice));
    let fingerprint = shown.split(' ').nth(1).unwrap();

    assert_eq!(real.agent().keys().unwrap().len(), 2, "ECDSA is left out");
    for selector in ["alice@laptop", fingerprint, &id.0, &id.0[..8], &id.0[..8].to_uppercase()] {
        let key = real.agent().key_for(selector).unwrap();
        assert_eq!((key.key_id(), key.public()), (id.clone(), public.clone()), "{selector}");
        assert_eq!(key.fingerprint(), fingerprint);
        let signature = key.sign(b"message").unwrap();
        assert_eq!(signature.len(), 64);
        assert!(Key::new(&public).verifies(b"message", &signature));
    }
    for selector in ["", "alice", &id.0[..7], &fingerprint[..20], "0000000000"] {
        let error = real.agent().key_for(selector).unwrap_err();
        let AgentError::NoSuchKey { held, .. } = error else { panic!("{selector}: {error:?}") };
        assert_eq!(held.len(), 2);
    }
}

#[test]
fn a_comment_that_two_keys_have_is_refused_with_both() {
    let real = RealAgent::start();
    for _ in 0..2 {
        real.add("ed25519", "work");
    }
    let error = real.agent().key_for("work").unwrap_err();
    let AgentError::Ambiguous { held, .. } = &error else { panic!("{error:?}") };
    for key in real.agent().keys().unwrap() {
        assert!(held.contains(&key.to_string()));
        assert!(error.to_string().contains(&key.fingerprint()), "{error}");
    }
}

#[test]
fn a_key_that_was_removed_meanwhile_does_not_sign() {
    let real = RealAgent::start();
    real.add("ed25519", "work");
    let key = real.agent().key_for("work").unwrap();
    real.run(Command::new("ssh-add").args(["-q", "-D"]));
    let error = key.signature(b"message").unwrap_err();
    assert!(matches!(error, AgentError::Refused), "{error:?}");
    let SignError::Failed { key_id, .. } = key.sign(b"message").unwrap_err() else {
        panic!("it was refused")
    };
    assert_eq!(key_id, key.key_id());
}

#[test]
fn more_than_an_agent_takes_is_refused_before_asking() {
    let real = RealAgent::start();
    real.add("ed25519", "work");
    let key = real.agent().key_for("work").unwrap();
    key.sign(&vec![b'a'; 256 * 1024 - 100]).unwrap();
    let error = key.signature(&vec![b'a'; 256 * 1024]).unwrap_err();
    assert!(matches!(error, AgentError::TooLong), "{error:?}");
}

#[test]
fn no_agent_at_the_socket_is_unreachable() {
    let dir = tempfile::tempdir().unwrap();
    let error = Agent::at(&dir.path().join("none")).keys().unwrap_err();
    assert!(matches!(error, AgentError::Unreachable { .. }), "{error:?}");
}

/// Talks to an agent that answers each question with one of `answers`, then hangs up.
fn with_answers<T>(answers: &[Vec<u8>], talk: impl FnOnce(&Agent) -> T) -> T {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut length = [0; 4];
                stream.read_exact(&mut length).unwrap();
                let mut question = vec![0; u32::from_be_bytes(length) as usize];
                stream.read_exact(&mut question).unwrap();
                // Whoever has seen enough hangs up.
                let _ = stream.write_all(answer);
            }
        });
        talk(&Agent::at(&socket))
    })
}

/// Each part behind its length.
fn strings(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    parts.iter().for_each(|part| ssh::push_string(&mut bytes, part));
    bytes
}

/// A message of that type.
fn message(kind: u8, content: &[u8]) -> Vec<u8> {
    strings(&[&[&[kind], content].concat()])
}

/// The list of one key.
fn listing(key: &PrivateKey) -> Vec<u8> {
    let PublicKey::Ed25519(bytes) = key.public() else { unreachable!("asked for Ed25519") };
    let blob = strings(&[b"ssh-ed25519", bytes]);
    message(12, &[&1u32.to_be_bytes(), strings(&[&blob, b"work"]).as_slice()].concat())
}

fn signed(algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    message(14, &strings(&[&strings(&[algorithm, signature])]))
}

#[test]
fn a_signature_that_is_not_the_listed_keys_is_never_used() {
    let [key, other] = [(); 2].map(|()| PrivateKey::generate(Algorithm::Ed25519).unwrap());
    let (good, bad) = (key.sign(b"message").unwrap(), other.sign(b"message").unwrap());
    let sign = |answer: Vec<u8>| {
        with_answers(&[listing(&key), answer], |agent| {
            let listed = agent.key_for("work").unwrap();
            assert_eq!(listed.key_id(), key.key_id());
            listed.signature(b"message")
        })
    };
    assert_eq!(sign(signed(b"ssh-ed25519", &good)).unwrap(), good);
    let error = sign(signed(b"ssh-ed25519", &bad)).unwrap_err();
    assert!(matches!(error, AgentError::WrongSignature), "{error:?}");
    for garbled in [
        signed(b"ssh-rsa", &good),
        signed(b"ssh-ed25519", &good[..63]),
        message(14, &[&strings(&[&strings(&[b"ssh-ed25519", &good])])[..], b"x"].concat()),
        message(14, b""),
        message(12, b""),
    ] {
        let error = sign(garbled).unwrap_err();
        assert!(matches!(error, AgentError::Garbled { .. }), "{error:?}");
    }
}

#[test]
fn an_agent_that_answers_nonsense_is_refused_and_costs_little() {
    let key = PrivateKey::generate(Algorithm::Ed25519).unwrap();
    let good = listing(&key);
    let many = message(12, &[&u32::MAX.to_be_bytes(), &good[9..]].concat());
    for garbled in [
        0u32.to_be_bytes().to_vec(),
        // Four gigabytes, of which none is waited for or made room for.
        u32::MAX.to_be_bytes().to_vec(),
        (256 * 1024 + 1u32).to_be_bytes().to_vec(),
        message(12, b""),
        message(12, &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]),
        message(12, &[&[0; 4][..], b"trailing"].concat()),
        message(99, b""),
        many,
    ] {
        let error = with_answers(std::slice::from_ref(&garbled), Agent::keys).unwrap_err();
        assert!(matches!(error, AgentError::Garbled { .. }), "{garbled:?}: {error:?}");
    }
    for cut in [0, 3, 4, 5, good.len() - 1] {
        let error = with_answers(&[good[..cut].to_vec()], Agent::keys).unwrap_err();
        assert!(matches!(error, AgentError::Unreachable { .. }), "{cut}: {error:?}");
    }
    let error = with_answers(&[message(5, b"")], Agent::keys).unwrap_err();
    assert!(matches!(error, AgentError::Refused), "{error:?}");
    // A key of small order, for which anybody can sign, and one that is listed twice.
    let weak = strings(&[b"ssh-ed25519", &[0; 32]]);
    let weak = message(12, &[&1u32.to_be_bytes(), strings(&[&weak, b"weak"]).as_slice()].concat());
    assert_eq!(with_answers(&[weak], Agent::keys).unwrap().len(), 0);
    let twice = message(12, &[&2u32.to_be_bytes(), &good[9..], &good[9..]].concat());
    assert_eq!(with_answers(&[twice], Agent::keys).unwrap().len(), 1);
}
