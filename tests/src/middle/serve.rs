//! The proxy's engine: one request in, one answer (or worse) out.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::{Body, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
};

use super::{Answer, Effect, Entry, Shared};

/// The most bytes of one body that are passed on.
const MAX_BODY: usize = 256 << 20;

/// The end of [`Effect::Endless`] and of [`Effect::Stall`]: no loop here is without one.
const ENDLESS: u64 = 4 << 30;
const STALL: Duration = Duration::from_secs(120);

type Upstream = Client<HttpConnector, Full<Bytes>>;

/// Accepts connections until its runtime ends.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let upstream = Client::builder(TokioExecutor::new()).build_http();
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(connection(stream, Arc::clone(&shared), upstream.clone()));
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>, upstream: Upstream) {
    let reset = Arc::new(Notify::new());
    let service = service_fn(|request| {
        let (shared, upstream, reset) = (Arc::clone(&shared), upstream.clone(), Arc::clone(&reset));
        async move {
            if let Some(response) = respond(request, &shared, &upstream).await {
                return Ok::<_, Infallible>(response);
            }
            reset.notify_one();
            std::future::pending().await
        }
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // How a client leaves is its own affair.
        _ = &mut connection => {}
        () = reset.notified() => {
            // Closing without lingering sends RST, where a plain close would be a polite FIN.
            let _ = connection.into_parts().io.into_inner().set_zero_linger();
        }
    }
}

/// The answer to `request`; `None` means a reset.
async fn respond(request: Request<Incoming>, shared: &Shared, upstream: &Upstream) -> Option<Response<Flow>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let body = Limited::new(body, MAX_BODY).collect().await.ok()?.to_bytes();
    let text =
        |name| head.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::to_owned);
    let if_none_match = text(header::IF_NONE_MATCH);
    let mut entry = Entry {
        method: head.method.to_string(),
        path: path.clone(),
        authorization: text(header::AUTHORIZATION),
        conditional: if_none_match.is_some(),
        received: body.len() as u64,
        status: 0,
        sent: 0,
    };

    let effect = shared.effect(&head.method, &path);
    let call = Call { method: &head.method, path: &path, headers: &head.headers, body, shared, upstream };
    let answer = match &effect {
        Effect::Reset => None,
        Effect::Stall => {
            // Logged before it hangs, so that a test can wait for the request to have come.
            shared.write_log(entry);
            tokio::time::sleep(STALL).await;
            return None;
        }
        Effect::Status(status) => Some(Answer::status(*status)),
        Effect::Answer(answer) => Some(unless_known(answer.clone(), if_none_match.as_deref())),
        Effect::Freeze => match shared.last_recorded(&head.method, &path) {
            Some(answer) => Some(unless_known(answer, if_none_match.as_deref())),
            None => Some(call.forward().await),
        },
        Effect::ResetAfter => {
            call.forward().await;
            None
        }
        _ => Some(call.forward().await),
    };
    let answer = answer.map(|answer| edited(answer, &effect));
    if let Some(answer) = &answer {
        entry.status = answer.status;
        entry.sent = match effect {
            Effect::Endless => 0,
            Effect::Truncate(length) => answer.body.len().min(length) as u64,
            _ if head.method == Method::HEAD => 0,
            _ => answer.body.len() as u64,
        };
    }
    shared.write_log(entry);
    Some(response(answer?, &effect, &head.method))
}

/// One request on its way to the registry.
struct Call<'a> {
    method: &'a Method,
    path: &'a str,
    headers: &'a HeaderMap,
    body: Bytes,
    shared: &'a Shared,
    upstream: &'a Upstream,
}

impl Call<'_> {
    /// The registry's answer, recorded; 502 if there is none.
    async fn forward(self) -> Answer {
        let uri = format!("http://{}{}", self.shared.upstream, self.path);
        let mut request = Request::builder().method(self.method).uri(uri);
        for (name, value) in self.headers {
            if !hop_by_hop(name) {
                request = request.header(name, value);
            }
        }
        let request = request.body(Full::new(self.body)).expect("what was a request stays one");
        let Ok(response) = self.upstream.request(request).await else {
            return Answer::status(502);
        };
        let (head, body) = response.into_parts();
        let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
            return Answer::status(502);
        };
        let headers = head.headers.into_iter().scan(None, |last, (name, value)| {
            // Repeated headers come with their name only once.
            *last = name.or_else(|| last.take());
            Some((last.clone().expect("the first header has a name"), value))
        });
        let mut answer =
            Answer { status: head.status.as_u16(), headers: HeaderMap::new(), body: body.to_bytes() };
        for (name, value) in headers.filter(|(name, _)| !hop_by_hop(name)) {
            answer.headers.append(name, value);
        }
        self.shared.record(self.method, self.path, &answer);
        answer
    }
}

fn hop_by_hop(name: &header::HeaderName) -> bool {
    matches!(*name, header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE | header::TE)
        || name == "keep-alive"
}

/// `answer`, or 304 without a body if the client has it already.
fn unless_known(answer: Answer, if_none_match: Option<&str>) -> Answer {
    let etag = answer.headers.get(header::ETAG).and_then(|value| value.to_str().ok());
    if answer.status != 200 || etag.is_none() || etag != if_none_match {
        return answer;
    }
    let mut headers = answer.headers;
    headers.remove(header::CONTENT_LENGTH);
    Answer { status: 304, headers, body: Bytes::new() }
}

fn edited(mut answer: Answer, effect: &Effect) -> Answer {
    match effect {
        Effect::Edit(change) => {
            let length = answer.body.len();
            change(&mut answer);
            if answer.body.len() != length {
                answer.headers.remove(header::CONTENT_LENGTH);
            }
        }
        Effect::WrongBytes => {
            let mut body = answer.body.to_vec();
            if let Some(last) = body.last_mut() {
                *last ^= 1;
            }
            answer.body = body.into();
        }
        _ => {}
    }
    answer
}

fn response(answer: Answer, effect: &Effect, method: &Method) -> Response<Flow> {
    let Answer { status, mut headers, body } = answer;
    let bodiless = method == Method::HEAD || status == 204 || status == 304;
    if matches!(effect, Effect::Endless) {
        headers.remove(header::CONTENT_LENGTH);
    } else if !bodiless {
        headers.entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(body.len()));
    }
    let flow = if bodiless { Flow::whole(Bytes::new()) } else { Flow::of(body, effect) };
    let mut response = Response::new(flow);
    *response.status_mut() = StatusCode::from_u16(status).expect("tests use statuses that exist");
    *response.headers_mut() = headers;
    response
}

/// A body that comes in pieces, or breaks off.
struct Flow(mpsc::Receiver<io::Result<Frame<Bytes>>>);

impl Flow {
    fn whole(body: Bytes) -> Self {
        Self::produced(move |sender| async move {
            let _ = sender.send(Ok(Frame::data(body))).await;
        })
    }

    fn of(body: Bytes, effect: &Effect) -> Self {
        match *effect {
            Effect::Truncate(length) if length < body.len() => Self::produced(move |sender| async move {
                let _ = sender.send(Ok(Frame::data(body.slice(..length)))).await;
                let _ = sender.send(Err(io::ErrorKind::UnexpectedEof.into())).await;
            }),
            Effect::Endless => Self::produced(|sender| async move {
                let piece = Bytes::from_static(&[b' '; 64 << 10]);
                for _ in 0..ENDLESS / piece.len() as u64 {
                    if sender.send(Ok(Frame::data(piece.clone()))).await.is_err() {
                        return;
                    }
                }
            }),
            Effect::Drip(every) => Self::produced(move |sender| async move {
                for at in 0..body.len() {
                    tokio::time::sleep(every).await;
                    if sender.send(Ok(Frame::data(body.slice(at..=at)))).await.is_err() {
                        return;
                    }
                }
            }),
            _ => Self::whole(body),
        }
    }

    /// A body whose pieces `producer` sends; it ends when the client has gone.
    fn produced<F>(producer: impl FnOnce(mpsc::Sender<io::Result<Frame<Bytes>>>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(producer(sender));
        Self(receiver)
    }
}

impl Body for Flow {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context)
    }
}
