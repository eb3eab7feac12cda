//! The plain TUF files, for stock clients (TUF 1.0.34, 6.2, consistent snapshots).

use std::sync::Arc;

use axum::{
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, Method, Request, StatusCode, Uri},
    response::Response,
};

use super::{Api, files::File, plain};

/// No file name is longer: `VERSION.ROLE.json`.
const MAX_NAME: usize = 300;

/// The answer of [`file`], if it takes neither the disk nor another thread. Such a request may be answered before it is
/// routed, which costs more than the answer.
pub(super) fn held<B>(api: &Api, request: &Request<B>) -> Option<Response> {
    let path = request.uri().path();
    if request.method() != Method::GET {
        return None;
    }
    let (name, _) = path.strip_prefix("/tuf/")?.split_once('/')?;
    let file = api.shared.files.at(path)?;
    // What is not served any more may still be held. The name of a timestamp is that of the newest one.
    let engine = api.engine(name).ok()?;
    if file.timestamp.is_some_and(|version| engine.timestamp_version() != version) {
        return None;
    }
    Some(file.answer(request.headers()))
}

/// `GET /tuf/NAME/metadata/FILE`
pub(super) async fn file(
    State(api): State<Api>,
    path: Result<Path<(String, String)>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    // The one answer that means "there is none": clients end their walk along the roots on it.
    let none = || plain(StatusCode::NOT_FOUND, "no such file\n".to_owned());
    let Ok(Path((name, file))) = path else { return none() };
    if file.len() > MAX_NAME {
        return none();
    }
    let found = match api.engine(&name) {
        Ok(engine) => engine.plain_file(&file).await.map_err(Into::into),
        Err(failure) => Err(failure),
    };
    match found {
        Ok(Some(found)) => {
            let found = Arc::new(File::new(found));
            // Under the one path that is spelled without escapes: the others would only take room.
            if uri.path() == format!("/tuf/{name}/metadata/{file}") {
                api.shared.files.keep(uri.path(), found.clone());
            }
            found.answer(&headers)
        }
        Ok(None) => none(),
        Err(failure) => plain(failure.status, format!("{}\n", failure.refusal.message)),
    }
}
