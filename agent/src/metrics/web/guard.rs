//! Logins and headers around whatever the listener serves, on every path.

use crate::http::{Handler, Reply, ReplyFuture, Request, text};
use crate::metrics::web::Web;
use hyper::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use std::sync::Arc;

/// Serves `inner` to those whom the web configuration lets in.
pub struct Guard {
    pub web: Arc<Web>,
    pub inner: Arc<dyn Handler>,
}

impl Handler for Guard {
    fn handle(&self, request: Request) -> ReplyFuture {
        let (web, inner) = (self.web.clone(), self.inner.clone());
        Box::pin(async move {
            let Some(current) = web.current().await else {
                return text(500, "Internal Server Error");
            };
            let authorization = request.headers().get(AUTHORIZATION);
            let mut reply = if current.users.are_none()
                || web.logins.admit(&current.users, authorization).await
            {
                inner.handle(request).await
            } else {
                unauthorized()
            };
            for (name, value) in &current.headers {
                reply.headers_mut().insert(name.clone(), value.clone());
            }
            reply
        })
    }
}

fn unauthorized() -> Reply {
    let mut reply = text(401, "Unauthorized");
    let basic = HeaderValue::from_static("Basic");
    reply.headers_mut().insert(WWW_AUTHENTICATE, basic);
    reply
}
