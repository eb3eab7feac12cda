//! What was taken back, as far as the documents that were verified earlier tell it: for when nothing newer can be had.

use std::{collections::BTreeMap, sync::Arc};

use super::{Document, Outcome, Revocation, Root, Search, Targets, Trusted, trusted};

/// Searches through documents that were verified earlier, for nothing but what they take back.
///
/// Each must be signed as whoever delegates to it wants it, from the newest root that is trusted down; nothing else is
/// asked of it. It may be expired, older than what the snapshot names, or not be there: a revocation does not end because
/// its signer, or who serves it, falls silent. So nothing may be vouched for by what is found here.
pub struct Recall<F> {
    root: Arc<Document<Root>>,
    read: F,
    /// By role and delegator, what was read; none if it is not there or does not verify.
    known: BTreeMap<(String, String), Option<Arc<Document<Targets>>>>,
}

/// What was taken back of a name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TakenBack {
    /// A whole scope that holds the name, and the role that says so.
    pub scope: Option<(String, Revocation)>,
    /// Digests, and which role took each back.
    pub digests: Vec<(String, Revocation)>,
}

impl<F: FnMut(&str) -> Option<Vec<u8>>> Recall<F> {
    /// From the root trusted in `trusted`; `read` gives the document that is held of a role.
    pub fn new(trusted: &Trusted, read: F) -> Self {
        Self { root: trusted.root().document(), read, known: BTreeMap::new() }
    }

    /// What was taken back of the target name `name`. Within the limits of a [`Search`]; what is beyond them is left out.
    pub fn of(&mut self, name: &str) -> TakenBack {
        let mut search = Search::new(name);
        // In the order of the search's visits.
        let mut visited: Vec<(String, Arc<Document<Targets>>)> = Vec::new();
        while let Some(next) = search.next_within_limits() {
            let delegator = next.delegator().map(|at| &visited[at]);
            let Some(document) = self.document(next.role(), delegator) else { continue };
            visited.push((next.role().to_owned(), document.clone()));
            match search.visit(next, &document.signed) {
                None => {}
                Some(Outcome::Revoked { role, revocation }) => {
                    let digests = search.revocations().to_vec();
                    return TakenBack { scope: Some((role, revocation)), digests };
                }
                Some(Outcome::Found(found)) => {
                    return TakenBack { scope: None, digests: found.revocations };
                }
                Some(Outcome::Absent { revocations, .. }) => {
                    return TakenBack { scope: None, digests: revocations };
                }
            }
        }
        TakenBack { scope: None, digests: search.revocations().to_vec() }
    }

    fn document(
        &mut self,
        role: &str,
        delegator: Option<&(String, Arc<Document<Targets>>)>,
    ) -> Option<Arc<Document<Targets>>> {
        let by = delegator.map_or("root", |(delegator, _)| delegator);
        let key = (role.to_owned(), by.to_owned());
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let bytes = (self.read)(role);
        let delegator = delegator.map(|(_, document)| &document.signed);
        let read = bytes.and_then(|bytes| trusted::signed_targets(&self.root, delegator, role, &bytes).ok());
        self.known.insert(key, read.clone());
        read
    }
}

impl<F> std::fmt::Debug for Recall<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recall").field("known", &self.known.keys()).finish_non_exhaustive()
    }
}
