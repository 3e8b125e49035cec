//! The HTTP client under the AWS libraries: plain HTTP/1.1 over our resolver.
//!
//! It is small on purpose. Instance metadata is http only, so no TLS is linked
//! for it, and the libraries' own client would ask libc for names. One
//! connection per request; the library above keeps the overall time limits.

use crate::dns::Resolver;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// The longest body taken; a metadata answer has some hundred bytes.
const MAX_BODY: usize = 1024 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A client for any number of AWS clients.
pub fn client(resolver: Resolver) -> SharedHttpClient {
    http_client_fn(move |settings, _| {
        SharedHttpConnector::new(Connector {
            resolver: resolver.clone(),
            settings: settings.clone(),
        })
    })
}

#[derive(Debug)]
struct Connector {
    resolver: Resolver,
    settings: HttpConnectorSettings,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (resolver, settings) = (self.resolver.clone(), self.settings.clone());
        HttpConnectorFuture::new(async move {
            let request = translate(request)?;
            let connect = connect(&resolver, request.uri());
            let stream = within(settings.connect_timeout(), connect).await?;
            exchange(stream, request, settings.read_timeout()).await
        })
    }
}

/// The library's request as hyper's, with the headers that a connection wants.
fn translate(request: HttpRequest) -> Result<hyper::Request<Full<Bytes>>, ConnectorError> {
    let user = |error: BoxError| ConnectorError::user(error);
    let body = request.body().bytes();
    let body = body.ok_or_else(|| user("a streamed body is not supported".into()))?;
    let uri: hyper::Uri = request
        .uri()
        .parse()
        .map_err(|error| user(Box::new(error)))?;
    if uri.scheme_str() != Some("http") {
        return Err(user(format!("only http is supported: {uri}").into()));
    }
    let Some(authority) = uri.authority().cloned() else {
        return Err(user(format!("no host in {uri}").into()));
    };
    let mut translated = hyper::Request::builder()
        .method(request.method())
        .uri(uri)
        .header(HOST, authority.as_str())
        .header(CONNECTION, "close");
    for (name, value) in request.headers() {
        if !name.eq_ignore_ascii_case("host") {
            translated = translated.header(name, value);
        }
    }
    translated
        .body(Full::new(Bytes::copy_from_slice(body)))
        .map_err(|error| user(Box::new(error)))
}

/// Connects to the first address that takes the connection.
async fn connect(resolver: &Resolver, uri: &hyper::Uri) -> Result<TcpStream, ConnectorError> {
    let host = uri.host().unwrap_or_default();
    let addresses = resolver.lookup(host).await.map_err(io_error)?;
    let port = uri.port_u16().unwrap_or(80);
    let mut refused = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect(SocketAddr::new(address, port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => refused = error,
        }
    }
    Err(io_error(refused))
}

/// One request and its whole answer on a connection of their own.
async fn exchange(
    stream: TcpStream,
    mut request: hyper::Request<Full<Bytes>>,
    read_timeout: Option<Duration>,
) -> Result<HttpResponse, ConnectorError> {
    // The connection wants the path alone (RFC 9112, section 3.2.1).
    let path = request.uri().path_and_query().map(ToString::to_string);
    *request.uri_mut() = path
        .as_deref()
        .unwrap_or("/")
        .parse()
        .map_err(|error: hyper::http::uri::InvalidUri| ConnectorError::user(Box::new(error)))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io_error)?;
    let answer = async {
        let head = async { sender.send_request(request).await.map_err(io_error) };
        let response = within(read_timeout, head).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect();
        let body = within(read_timeout, async { body.await.map_err(body_error) }).await?;
        let status = head
            .status
            .as_u16()
            .try_into()
            .map_err(|error| ConnectorError::other(Box::new(error), None))?;
        let mut response = HttpResponse::new(status, body.to_bytes().into());
        for (name, value) in &head.headers {
            if let Ok(value) = value.to_str() {
                // Only fails for what hyper has taken as a header already.
                let _ = response
                    .headers_mut()
                    .try_append(name.as_str().to_owned(), value.to_owned());
            }
        }
        Ok(response)
    };
    let mut answer = std::pin::pin!(answer);
    // The connection makes progress only while it is polled; it may end first
    // when the server closes, and the answer is in hand then.
    tokio::select! {
        answer = answer.as_mut() => return answer,
        _ = connection => (),
    }
    answer.await
}

async fn within<T>(
    limit: Option<Duration>,
    work: impl Future<Output = Result<T, ConnectorError>>,
) -> Result<T, ConnectorError> {
    match limit {
        None => work.await,
        Some(limit) => match tokio::time::timeout(limit, work).await {
            Ok(done) => done,
            Err(elapsed) => Err(ConnectorError::timeout(elapsed.into())),
        },
    }
}

fn io_error(error: impl Into<BoxError>) -> ConnectorError {
    ConnectorError::io(error.into())
}

fn body_error(error: BoxError) -> ConnectorError {
    if error.is::<LengthLimitError>() {
        ConnectorError::other(error, None)
    } else {
        ConnectorError::io(error)
    }
}
