//! Plain HTTP exchanges without a registry's credentials: the daemon's API and plain TUF repositories, under the same limits as a
//! registry.

use ::http::{HeaderValue, Method, StatusCode, header::CONTENT_TYPE};
use bytes::Bytes;
use url::Url;

use super::{Registry, RegistryError, Secret, auth, missing, request, site, transport::unexpected};

impl Registry {
    /// The file at `url`, at most `cap` bytes of it; none for a 404 by the server itself, not by whom it redirects to.
    /// Sends no credentials.
    ///
    /// # Errors
    /// [`RegistryError`]; any status but 200 and 404 is one.
    pub async fn file(&self, url: &Url, cap: u64) -> Result<Option<Bytes>, RegistryError> {
        let (status, body) = self.exchange(Method::GET, url, None, Bytes::new(), cap, &[]).await?;
        Ok((status == StatusCode::OK).then_some(body))
    }

    /// What a server says of its health at `url`: the status, 200, 404 or 503, with at most `cap` bytes of the answer
    /// (none of a 404). Sends no credentials.
    ///
    /// # Errors
    /// [`RegistryError`]; any other status is one.
    pub async fn health(&self, url: &Url, cap: u64) -> Result<(StatusCode, Bytes), RegistryError> {
        self.exchange(Method::GET, url, None, Bytes::new(), cap, &[StatusCode::SERVICE_UNAVAILABLE]).await
    }

    /// Sends `body`, JSON, to `url` and returns the status with at most `cap` bytes of the answer. Sends no credentials but
    /// `token`, as `Authorization: Bearer`, if there is one, and follows no redirect.
    ///
    /// # Errors
    /// [`RegistryError::TokenInTheClear`] before anything is sent, if there is a token and `url` is neither https nor on
    /// this machine, whatever else may be spoken to in plain http. [`RegistryError`] if there is no usable answer. A status
    /// of 400 to 499 is an answer; and so is 503, whose body may say why.
    pub async fn post(
        &self,
        url: &Url,
        token: Option<&Secret>,
        body: Bytes,
        cap: u64,
    ) -> Result<(StatusCode, Bytes), RegistryError> {
        let authorization = match token {
            Some(_) if url.scheme() != "https" && !site::is_loopback(url) => {
                return Err(RegistryError::TokenInTheClear { host: site::authority(url) });
            }
            Some(token) => Some(auth::bearer(token).ok_or_else(|| RegistryError::Argument {
                text: "the token".to_owned(),
                what: "one line of visible ASCII characters",
            })?),
            None => None,
        };
        self.exchange(Method::POST, url, authorization.as_ref(), body, cap, &[]).await
    }

    /// GET gives 200, 404 and those of `also` as answers, POST every 2xx, 4xx, and 503.
    async fn exchange(
        &self,
        method: Method,
        url: &Url,
        authorization: Option<&HeaderValue>,
        body: Bytes,
        cap: u64,
        also: &[StatusCode],
    ) -> Result<(StatusCode, Bytes), RegistryError> {
        let transport = self.inner.transport();
        if url.scheme() != "https" && !(transport.plain_http() || site::is_loopback(url)) {
            return Err(RegistryError::Argument {
                text: site::shown(url),
                what: "an https URL (plain http is for loopback, or with --plain-http)",
            });
        }
        let mut request = request(method.clone(), url.clone());
        if !body.is_empty() {
            request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            request.body = body;
        }
        let call = async {
            let response = transport.send(&request, authorization).await?;
            let status = response.status;
            let expected = if method == Method::GET {
                status == StatusCode::OK || missing(&request, &response) || also.contains(&status)
            } else {
                status.is_success() || status == StatusCode::SERVICE_UNAVAILABLE || status.is_client_error()
            };
            if !expected {
                return Err(unexpected(&response));
            }
            if status == StatusCode::NOT_FOUND && method == Method::GET {
                // Its page means nothing, whatever its size and form.
                return Ok((status, Bytes::new()));
            }
            Ok((status, transport.read(response, cap).await?))
        };
        let after = self.inner.deadline;
        tokio::time::timeout(after, call)
            .await
            .unwrap_or_else(|_| Err(RegistryError::Timeout { host: site::authority(url), after }))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::{super::RegistryOptions, *};

    /// T72: a token is not sent in plain http beyond this machine, whatever else may be.
    #[tokio::test]
    async fn a_token_is_never_sent_in_the_clear() {
        let registry = Registry::new(RegistryOptions { plain_http: true, ..Default::default() }).unwrap();
        let token = Secret::new("plt_x");
        let url = Url::parse("http://192.0.2.1/v1").unwrap();
        let refused = registry.post(&url, Some(&token), Bytes::from("{}"), 100).await;
        assert!(
            matches!(&refused, Err(RegistryError::TokenInTheClear { host }) if host == "192.0.2.1"),
            "{refused:?}"
        );
        assert!(refused.unwrap_err().is_misuse());
        let url = Url::parse("http://127.0.0.1:1/v1").unwrap();
        for text in ["", "a b", "a\r\nx: y", "é"] {
            let refused = registry.post(&url, Some(&Secret::new(text)), Bytes::from("{}"), 100).await;
            assert!(matches!(refused, Err(RegistryError::Argument { .. })), "{text:?}");
        }
        assert_eq!(registry.requests(), 0);
    }

    /// T72: a token goes where it is meant to go, and nowhere that says so.
    #[tokio::test]
    async fn a_token_is_sent_once_and_along_no_redirect() {
        let (here, there) = (
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        );
        let url = Url::parse(&format!("http://{}/v1", here.local_addr().unwrap())).unwrap();
        let location = format!("http://{}/v1", there.local_addr().unwrap());
        let answering = tokio::spawn(async move {
            let (mut stream, _) = here.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let mut length = 0;
            while !request[..length].ends_with(b"{}") {
                length += stream.read(&mut request[length..]).await.unwrap();
            }
            let answer = format!(
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(request[..length].to_vec()).unwrap()
        });
        let registry = Registry::new(RegistryOptions::default()).unwrap();
        let token = Secret::new("plt_x");
        let refused = registry.post(&url, Some(&token), Bytes::from("{}"), 100).await;
        assert!(matches!(refused, Err(RegistryError::RedirectRefused { .. })), "{refused:?}");
        assert!(!format!("{refused:?}").contains("plt_x"));
        assert!(answering.await.unwrap().contains("authorization: Bearer plt_x\r\n"));
        let followed = tokio::time::timeout(std::time::Duration::ZERO, there.accept()).await;
        assert!(followed.is_err(), "the redirect was followed");
        assert_eq!(registry.requests(), 1);
    }
}
