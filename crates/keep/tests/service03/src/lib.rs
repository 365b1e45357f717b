//! A handler of WASI 0.3.

use wasip3::{
    http::types::{ErrorCode, Fields, Request, Response, Scheme},
    wit_bindgen, wit_future, wit_stream,
};

wasip3::http::service::export!(Service);

struct Service;

impl wasip3::exports::http::handler::Guest for Service {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        match path.as_str() {
            "/seen" => {
                let scheme = format!("{:?} {:?}", request.get_scheme(), request.get_authority());
                Ok(streamed(vec![scheme]))
            }
            "/parts" => Ok(streamed((0..100).map(|part| format!("part {part};")).collect())),
            "/fail" => Err(ErrorCode::InternalError(Some("a secret of the workload".into()))),
            "/trap" => panic!("trapped"),
            path => match path.strip_prefix("/fetch?to=") {
                Some(authority) => fetch(authority).await,
                None => Ok(streamed(vec!["hello".into()])),
            },
        }
    }
}

fn streamed(parts: Vec<String>) -> Response {
    let (mut sender, body) = wit_stream::new();
    let (trailers, no_trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(Fields::new(), Some(body), no_trailers);
    drop(trailers);
    wit_bindgen::spawn(async move {
        for part in parts {
            sender.write_all(part.into_bytes()).await;
        }
    });
    response
}

/// Another Marble's answer, as it is.
async fn fetch(authority: &str) -> Result<Response, ErrorCode> {
    let (trailers, no_trailers) = wit_future::new(|| Ok(None));
    drop(trailers);
    let (request, _sent) = Request::new(Fields::new(), None, no_trailers, None);
    let unusable = |()| ErrorCode::HttpRequestUriInvalid;
    request.set_scheme(Some(&Scheme::Http)).map_err(unusable)?;
    request.set_authority(Some(authority)).map_err(unusable)?;
    request.set_path_with_query(Some("/votes")).map_err(unusable)?;
    wasip3::http::client::send(request).await
}
