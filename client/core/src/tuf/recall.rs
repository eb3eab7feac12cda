//! What was taken back, as far as the documents that were verified earlier tell it: for when nothing newer can be had.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::{Document, Outcome, Revocation, Search, Targets, Trusted, search::delegation_keys, trusted};

/// Searches through documents that were verified earlier, for nothing but what they take back.
///
/// They are believed because of where they are kept: only what verified is written there, and who can write there can
/// remove them as well. Their signatures are not asked for again. Keys that were replaced since do not undo what they
/// took back: its successor does, once it is held. All that is asked is that a document is of this trust repository, and
/// that the one held of its delegator still names the role. It may be expired, older than what the snapshot names, or not
/// be there: a revocation does not end because its signer, or who serves it, falls silent. So nothing may be vouched for
/// by what is found here: it can only make a verdict stricter.
pub struct Recall<F> {
    trust: Option<String>,
    read: F,
    /// By role, what is held; none if it is not there or is no such document.
    known: BTreeMap<String, Option<Arc<Document<Targets>>>>,
    /// By the roles visited, what they took back: mostly they are the same for all names.
    digests: BTreeMap<Vec<String>, Revocations>,
}

/// Digests, and which role took each back.
type Revocations = Arc<Vec<(String, Revocation)>>;

/// What was taken back of a name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TakenBack {
    /// A whole scope that holds the name, and the role that says so.
    pub scope: Option<(String, Revocation)>,
    /// Digests, and which role took each back, each pair once. Names that are the same roles' share one list.
    pub digests: Arc<Vec<(String, Revocation)>>,
}

impl<F: FnMut(&str) -> Option<Vec<u8>>> Recall<F> {
    /// Of the trust repository of `trusted`, whose roles are the newest, as far as it has any; `read` gives the document
    /// that is held of any other one. It must give nothing but what was verified when it was written.
    pub fn new(trusted: &Trusted, read: F) -> Self {
        let known = trusted.roles().map(|(role, document)| (role.to_owned(), Some(document.document())));
        let trust = trusted.trust_id().map(str::to_owned);
        Self { trust, read, known: known.collect(), digests: BTreeMap::new() }
    }

    /// What was taken back of the target name `name`. Within the limits of a [`Search`]; what is beyond them is left out.
    pub fn of(&mut self, name: &str) -> TakenBack {
        let mut search = Search::for_scopes(name);
        // In the order of the search's visits.
        let mut visited: Vec<Arc<Document<Targets>>> = Vec::new();
        let mut scope = None;
        while let Some(next) = search.next_within_limits() {
            let delegator = next.delegator().map(|at| visited[at].clone());
            let Some(document) = self.document(next.role()) else { continue };
            let names = |delegator: &Document<Targets>| {
                let delegations = delegator.signed.delegations.as_ref();
                delegations.is_some_and(|delegations| delegation_keys(delegations, next.role()).is_some())
            };
            if delegator.is_some_and(|delegator| !names(&delegator)) {
                continue;
            }
            visited.push(document.clone());
            match search.visit(next, &document.signed) {
                None => {}
                Some(Outcome::Revoked { role, revocation }) => {
                    scope = Some((role, revocation));
                    break;
                }
                Some(Outcome::Found(_) | Outcome::Absent { .. }) => break,
            }
        }
        TakenBack { scope, digests: self.digests(search.asked(), &visited) }
    }

    /// What `documents`, those of `roles`, took back.
    fn digests(&mut self, roles: Vec<String>, documents: &[Arc<Document<Targets>>]) -> Revocations {
        if let Some(known) = self.digests.get(&roles) {
            return known.clone();
        }
        let mut all = Vec::new();
        for (role, document) in roles.iter().zip(documents) {
            let mut seen = HashSet::new();
            let digests = document
                .signed
                .revocations()
                .iter()
                .filter(|revocation| revocation.digest.is_some_and(|digest| seen.insert(digest)));
            all.extend(digests.map(|revocation| (role.clone(), revocation.clone())));
        }
        let all = Arc::new(all);
        self.digests.insert(roles, all.clone());
        all
    }

    fn document(&mut self, role: &str) -> Option<Arc<Document<Targets>>> {
        if let Some(known) = self.known.get(role) {
            return known.clone();
        }
        let bytes = (self.read)(role);
        let read = bytes.and_then(|bytes| trusted::held_targets(self.trust.as_deref(), role, &bytes).ok());
        self.known.insert(role.to_owned(), read.clone());
        read
    }
}

impl<F> std::fmt::Debug for Recall<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recall").field("known", &self.known.keys()).finish_non_exhaustive()
    }
}
