//! Who may submit: whoever has a token, or everybody.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::http::{HeaderMap, header::AUTHORIZATION};
use plimsoll::{clock::Clock, verify};

use crate::{
    config::Submit,
    secrets::SecretFile,
    tokens::{Denial, TokenError, Tokens},
};

/// Decides who may submit. Sees a changed file of tokens at the next submission; one that is wrong changes nothing.
pub(crate) struct Gate {
    clock: Arc<dyn Clock>,
    /// True if only this machine reaches the daemon.
    loopback: bool,
    held: Mutex<Held>,
}

/// What is known of the tokens.
#[derive(Debug)]
pub(crate) struct Held {
    rule: Option<Submit>,
    file: SecretFile,
    /// The file that was read last, or tried.
    stamp: Option<Stamp>,
    /// None if there never was a file.
    tokens: Option<Tokens>,
}

/// A file that was not written since has the same.
type Stamp = (u64, u64, i64, i64, i64, i64);

impl Held {
    /// Reads the tokens in `file`. Blocking disk I/O.
    ///
    /// # Errors
    /// [`TokenError`].
    pub(crate) fn read(rule: Option<Submit>, file: SecretFile) -> Result<Self, TokenError> {
        // Before reading: what is written meanwhile is read again.
        let stamp = stamp(&file);
        let tokens = Tokens::read(&file)?;
        Ok(Self { rule, file, stamp, tokens })
    }
}

impl Gate {
    /// A gate for a listener that only this machine reaches, or also others.
    pub(crate) fn new(held: Held, loopback: bool, clock: Arc<dyn Clock>) -> Self {
        Self { clock, loopback, held: Mutex::new(held) }
    }

    /// From now on `held` decides.
    pub(crate) fn replace(&self, held: Held) {
        let mut old = self.held();
        // A file that is gone must not open what was closed.
        let tokens = held.tokens.or(old.tokens.as_ref().map(|_| Tokens::default()));
        *old = Held { tokens, ..held };
    }

    /// True if a submission needs a token now.
    pub(crate) fn closed(&self) -> bool {
        self.needed(&self.held())
    }

    /// Lets a submission to `trust` in, with the name of its token if one is needed. Looks at the file's entry in its folder
    /// (one call to the system), and reads the file if it changed.
    ///
    /// # Errors
    /// [`Denial`].
    pub(super) fn admit(&self, trust: &str, headers: &HeaderMap) -> Result<Option<String>, Denial> {
        let mut held = self.held();
        refresh(&mut held);
        if !self.needed(&held) {
            return Ok(None);
        }
        let presented = bearer(headers)?;
        let none = Tokens::default();
        let tokens = held.tokens.as_ref().unwrap_or(&none);
        tokens.admit(presented, trust, self.clock.now()).map(|token| Some(token.name.clone()))
    }

    fn needed(&self, held: &Held) -> bool {
        match held.rule {
            Some(Submit::Anyone) => false,
            Some(Submit::Tokens) => true,
            None => !self.loopback || held.tokens.is_some(),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // A panic under this lock leaves what was held before.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refresh(held: &mut Held) {
    let now = stamp(&held.file);
    if now == held.stamp {
        return;
    }
    held.stamp = now;
    match Tokens::read(&held.file) {
        Ok(Some(tokens)) => {
            tracing::info!(file = %held.file, tokens = tokens.list.len(), "read the tokens again");
            held.tokens = Some(tokens);
        }
        // Whoever removes the file takes all tokens away, and opens nothing.
        Ok(None) => held.tokens = held.tokens.take().map(|_| Tokens::default()),
        Err(error) => {
            tracing::error!("the tokens stay as they were: {}", verify::chain(&error));
        }
    }
}

fn stamp(file: &SecretFile) -> Option<Stamp> {
    let path: PathBuf = file.path().ok()?;
    let found = fs::metadata(path).ok()?;
    Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()))
}

/// The token in `Authorization: Bearer TOKEN`, which must be there once.
fn bearer(headers: &HeaderMap) -> Result<&str, Denial> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(Denial::Missing) };
    let value = value.to_str().map_err(|_| Denial::Unknown)?;
    let (scheme, token) = value.split_once(' ').ok_or(Denial::Missing)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(Denial::Missing) }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use plimsoll::clock::SystemClock;

    use super::*;
    use crate::tokens::{self, NewToken};

    struct Setup {
        folder: tempfile::TempDir,
        gate: Gate,
    }

    impl Setup {
        fn new(rule: Option<Submit>, loopback: bool) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let held = Held::read(rule, tokens::default_file(folder.path()).into()).unwrap();
            Self { folder, gate: Gate::new(held, loopback, Arc::new(SystemClock)) }
        }

        fn path(&self) -> PathBuf {
            tokens::default_file(self.folder.path())
        }

        fn add(&self, name: &str) -> String {
            let new = NewToken { name: name.to_owned(), trusts: None, expires: None };
            tokens::add(&self.path(), &new, SystemClock.now()).unwrap().expose().to_owned()
        }

        fn ask(&self, authorization: &[&str]) -> Result<Option<String>, Denial> {
            let mut headers = HeaderMap::new();
            for value in authorization {
                headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            self.gate.admit("acme", &headers)
        }
    }

    #[test]
    fn who_needs_a_token_is_told_by_the_address_the_file_and_the_rule() {
        for (rule, loopback, before, after) in [
            (None, true, false, true),
            (None, false, true, true),
            (Some(Submit::Tokens), true, true, true),
            (Some(Submit::Anyone), false, false, false),
        ] {
            let setup = Setup::new(rule, loopback);
            assert_eq!(setup.gate.closed(), before, "{rule:?} {loopback}");
            assert_eq!(setup.ask(&[]).is_err(), before, "{rule:?} {loopback}");
            setup.add("ci");
            assert_eq!(setup.ask(&[]).is_err(), after, "{rule:?} {loopback}");
        }
    }

    #[test]
    fn tokens_come_and_go_without_a_word_to_the_daemon() {
        let setup = Setup::new(None, true);
        let token = format!("Bearer {}", setup.add("ci"));
        assert_eq!(setup.ask(&[&token]), Ok(Some("ci".to_owned())));
        assert_eq!(setup.ask(&[&token.replace("Bearer", "bearer")]), Ok(Some("ci".to_owned())));
        assert_eq!(setup.ask(&[]), Err(Denial::Missing));
        assert_eq!(setup.ask(&[&token, &token]), Err(Denial::Missing));
        assert_eq!(setup.ask(&[&token.replace("Bearer", "Basic")]), Err(Denial::Missing));
        assert_eq!(setup.ask(&["Bearer plt_x"]), Err(Denial::Unknown));

        // One that is wrong changes nothing, and one that is gone opens nothing.
        fs::write(setup.path(), "x = 1").unwrap();
        assert_eq!(setup.ask(&[&token]), Ok(Some("ci".to_owned())));
        fs::remove_file(setup.path()).unwrap();
        assert_eq!(setup.ask(&[&token]), Err(Denial::Unknown));
        assert_eq!(setup.ask(&[]), Err(Denial::Missing));
        setup.gate.replace(Held::read(None, setup.path().into()).unwrap());
        assert_eq!(setup.ask(&[]), Err(Denial::Missing));

        let other = format!("Bearer {}", setup.add("other"));
        assert_eq!(setup.ask(&[&other]), Ok(Some("other".to_owned())));
        tokens::remove(&setup.path(), "other").unwrap();
        assert_eq!(setup.ask(&[&other]), Err(Denial::Unknown));
        assert_eq!(setup.ask(&[]), Err(Denial::Missing));
    }
}
