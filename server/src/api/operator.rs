//! What the operator looks at: the page, and the metrics.

use axum::{
    Json,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use plimsoll::publish::api::Accepted;

use super::{Api, failure::Failure, plain, submissions};
use crate::{
    dashboard::{self, Trust},
    metrics,
    pipeline::{Engine, report::Report},
};

/// `GET /`: the page for those who accept HTML, else a few lines of text.
pub(super) async fn front(State(api): State<Api>, uri: Uri, headers: HeaderMap) -> Response {
    let mut response = if accepts_html(&headers) {
        page(&dashboard::front(&reports(&api).await, refresh(&uri)))
    } else {
        text(&api).into_response()
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

/// `GET /trusts/NAME`: the page of one of several.
pub(super) async fn trust(
    State(api): State<Api>,
    name: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Response {
    let trust = name.ok().and_then(|Path(name)| api.trusts().into_iter().find(|(other, _)| *other == name));
    let Some((name, engine)) = trust else {
        return plain(StatusCode::NOT_FOUND, "no trust repository of this name; / lists them\n".to_owned());
    };
    page(&dashboard::single(&(name, report(engine.as_ref()).await), refresh(&uri)))
}

/// `GET /metrics`
pub(super) async fn metrics(State(api): State<Api>) -> Response {
    let mut response = plain(StatusCode::OK, metrics::render(api.settings(), &reports(&api).await));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    response
}

/// `POST /v1/trusts/NAME/submissions`, with refusals counted that the engine never sees.
pub(super) async fn counted(
    State(api): State<Api>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<(StatusCode, Json<Accepted>), Failure> {
    let engine = name.as_ref().ok().and_then(|Path(name)| api.engine(name).ok());
    let answer = submissions::submit(State(api), name, request).await;
    if let (Err(failure), Some(engine)) = (&answer, engine)
        && !failure.counted
    {
        engine.note_refused(&failure.refusal);
    }
    answer
}

async fn reports(api: &Api) -> Vec<Trust> {
    let mut reports = Vec::new();
    for (name, engine) in api.trusts() {
        let report = report(engine.as_ref()).await;
        reports.push((name, report));
    }
    reports
}

async fn report(engine: Option<&Engine>) -> Option<Report> {
    match engine {
        Some(engine) => Some(engine.report().await),
        None => None,
    }
}

/// Browsers name it; curl, scripts and probes take anything, and get text.
fn accepts_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim_start().starts_with("text/html"))
}

fn refresh(uri: &Uri) -> bool {
    uri.query() == Some("refresh")
}

fn page(html: &str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, dashboard::POLICY.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, html.to_owned()).into_response()
}

fn text(api: &Api) -> String {
    let mut text = String::from(
        "This is plimsolld. It keeps trust metadata for container registries fresh.\n\n\
         /readyz                        is all well?\n\
         /metrics                       figures for Prometheus\n\
         /v1/trusts                     the trust repositories it serves, JSON\n",
    );
    for (name, _) in api.trusts() {
        text.push_str(&format!("/tuf/{name}/metadata/timestamp.json\n"));
    }
    text.push_str(
        "\nIn a browser this page shows how each trust repository is.\n\
         Publishers and clients use the command `plimsoll`; docs/http-api.md has the whole API.\n",
    );
    text
}
