//! The plain TUF files that were read last, in memory: one version never has two contents (promise P7), so what was read once
//! need not be read again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use plimsoll_core::oci::Digest;

use crate::pipeline::PlainFile;

/// What the files of one generation hold together, bytes; there are two. The largest file fits in.
const GENERATION: usize = 8 << 20;
/// What a file takes besides its bytes and its path, about.
const BESIDE: usize = 512;

/// A file as it is answered.
#[derive(Debug)]
pub(super) struct File {
    bytes: Bytes,
    etag: HeaderValue,
    cache: HeaderValue,
    /// The version of a timestamp, whose name does not tell it.
    pub(super) timestamp: Option<u64>,
}

impl File {
    pub(super) fn new(file: PlainFile) -> Self {
        let etag = format!("\"{}\"", Digest::of(&file.bytes).hex());
        // A file with its version in its name never changes (promise P7).
        let cache = match file.timestamp {
            None => "public, max-age=31536000, immutable",
            Some(_) => "no-cache",
        };
        Self {
            bytes: file.bytes,
            etag: HeaderValue::try_from(etag).expect("a digest in hex, in quotes, is a header's value"),
            cache: HeaderValue::from_static(cache),
            timestamp: file.timestamp,
        }
    }

    /// The answer to a request with these headers.
    pub(super) fn answer(&self, headers: &HeaderMap) -> Response {
        let known = self.is_known(headers);
        let mut response = Response::new(if known { Body::empty() } else { Body::from(self.bytes.clone()) });
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        response.headers_mut().insert(header::ETAG, self.etag.clone());
        response.headers_mut().insert(header::CACHE_CONTROL, self.cache.clone());
        response
    }

    fn is_known(&self, headers: &HeaderMap) -> bool {
        let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let mut known = known.flat_map(|value| value.split(',')).map(str::trim);
        known.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == self.etag)
    }
}

/// The files that were read last, by the path of their requests. Bounded.
///
/// Two generations: the younger takes what comes, and what of the elder is asked for; once it is full it is the elder one,
/// and what nobody asked for since is forgotten.
#[derive(Debug, Default)]
pub(super) struct Files {
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Box<str>, Arc<File>>,
    old: HashMap<Box<str>, Arc<File>>,
    /// Bytes of the young.
    size: usize,
}

impl Files {
    /// The file that was asked for at `path`, if it is still held. A timestamp may not be the current one any more.
    pub(super) fn at(&self, path: &str) -> Option<Arc<File>> {
        let mut generations = self.generations();
        if let Some(file) = generations.young.get(path) {
            return Some(file.clone());
        }
        let (path, file) = generations.old.remove_entry(path)?;
        generations.keep(path, file.clone());
        Some(file)
    }

    /// Holds `file`, which is what `path` asks for, in place of what was held for it.
    pub(super) fn keep(&self, path: &str, file: Arc<File>) {
        self.generations().keep(path.into(), file);
    }

    fn generations(&self) -> MutexGuard<'_, Generations> {
        // Whatever is lost of it is read again.
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn keep(&mut self, path: Box<str>, file: Arc<File>) {
        let size = |path: &str, file: &File| path.len() + file.bytes.len() + BESIDE;
        let more = size(&path, &file);
        if more > GENERATION {
            return;
        }
        if self.size + more > GENERATION {
            self.old = std::mem::take(&mut self.young);
            self.size = 0;
        }
        self.size += more;
        if let Some(before) = self.young.get(&path) {
            self.size -= size(&path, before);
        }
        self.young.insert(path, file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(length: usize) -> Arc<File> {
        Arc::new(File::new(PlainFile { bytes: vec![b'x'; length].into(), timestamp: None }))
    }

    fn held(files: &Files) -> usize {
        let generations = files.generations();
        let all = generations.young.values().chain(generations.old.values());
        all.map(|file| file.bytes.len()).sum()
    }

    #[test]
    fn what_is_held_is_bounded_and_what_is_asked_for_stays() {
        let files = Files::default();
        for n in 0..100 {
            files.keep(&format!("/{n}"), file(GENERATION / 7));
            assert!(files.at("/0").is_some(), "{n}");
            assert!(held(&files) <= 2 * GENERATION);
        }
        assert!(files.at("/99").is_some());
        assert!(files.at("/50").is_none());
        files.keep("/long", file(GENERATION));
        assert!(files.at("/long").is_none());
        // Empty ones take room, too.
        for n in 0..100_000 {
            files.keep(&format!("/empty/{n}"), file(0));
        }
        let generations = files.generations();
        assert!(generations.young.len() + generations.old.len() <= 2 * GENERATION / BESIDE);
    }

    #[test]
    fn the_newest_file_of_a_path_is_held_and_the_one_before_takes_no_room() {
        let files = Files::default();
        files.keep("/other", file(1));
        for n in 0..1000 {
            files.keep("/timestamp", file(GENERATION / 4 + n));
            assert_eq!(files.at("/timestamp").unwrap().bytes.len(), GENERATION / 4 + n);
        }
        assert!(files.generations().old.is_empty());
    }
}
