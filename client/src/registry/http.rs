//! Plain HTTP exchanges without credentials: the daemon's API and plain TUF repositories, under the same limits as a
//! registry.

use ::http::{HeaderValue, Method, StatusCode, header::CONTENT_TYPE};
use bytes::Bytes;
use url::Url;

use super::{Registry, RegistryError, missing, request, site, transport::unexpected};

impl Registry {
    /// The file at `url`, at most `cap` bytes of it; none for a 404 by the server itself, not by whom it redirects to.
    /// Sends no credentials.
    ///
    /// # Errors
    /// [`RegistryError`]; any status but 200 and 404 is one.
    pub async fn file(&self, url: &Url, cap: u64) -> Result<Option<Bytes>, RegistryError> {
        let (status, body) = self.exchange(Method::GET, url, Bytes::new(), cap).await?;
        Ok((status == StatusCode::OK).then_some(body))
    }

    /// Sends `body`, JSON, to `url` and returns the status with at most `cap` bytes of the answer. Sends no credentials
    /// and follows no redirect.
    ///
    /// # Errors
    /// [`RegistryError`] if there is no usable answer. A status of 400 to 499 is an answer, but for 401 and 403; and so is
    /// 503. The body may say why.
    pub async fn post(&self, url: &Url, body: Bytes, cap: u64) -> Result<(StatusCode, Bytes), RegistryError> {
        self.exchange(Method::POST, url, body, cap).await
    }

    /// GET gives 200 and 404 as answers, POST every 2xx, 4xx but 401 and 403, and 503.
    async fn exchange(
        &self,
        method: Method,
        url: &Url,
        body: Bytes,
        cap: u64,
    ) -> Result<(StatusCode, Bytes), RegistryError> {
        let transport = &self.inner.transport;
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
            let response = transport.send(&request, None).await?;
            let status = response.status;
            let expected = if method == Method::GET {
                status == StatusCode::OK || missing(&request, &response)
            } else {
                status.is_success()
                    || status == StatusCode::SERVICE_UNAVAILABLE
                    || (status.is_client_error() && !matches!(status.as_u16(), 401 | 403))
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
