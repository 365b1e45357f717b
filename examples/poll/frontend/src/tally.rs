//! What the page asks of `http://tally/`.

use ballot::{Counts, Receipt};
use wstd::http::{Body, Client, Method, Request, Response};

use crate::{Problem, page};

/// All counts.
pub async fn counts() -> Result<Counts, Problem> {
    let mut response = ask(Method::GET, "http://tally/votes").await?;
    read(&mut response).await
}

/// Counts one vote.
pub async fn vote(option: &str) -> Result<Receipt, Problem> {
    let mut response = ask(Method::POST, &format!("http://tally/votes/{option}")).await?;
    let receipt: Receipt = read(&mut response).await?;
    if page::is_receipt(&receipt.receipt) {
        Ok(receipt)
    } else {
        Err(unexpected("a receipt of another form"))
    }
}

async fn ask(method: Method, url: &str) -> Result<Response<Body>, Problem> {
    let request = Request::builder().method(method).uri(url).body(Body::empty());
    let request = request.map_err(|error| unexpected(&error.to_string()))?;
    let response = Client::new().send(request).await.map_err(|error| unexpected(&error.to_string()))?;
    if response.status().is_success() { Ok(response) } else { Err(unexpected(response.status().as_str())) }
}

async fn read<T: for<'a> serde::Deserialize<'a>>(response: &mut Response<Body>) -> Result<T, Problem> {
    let body = response.body_mut().contents().await.map_err(|error| unexpected(&error.to_string()))?;
    serde_json::from_slice(body).map_err(|error| unexpected(&error.to_string()))
}

fn unexpected(what: &str) -> Problem {
    Problem::Tally(format!("The tally cannot be reached now ({what}). Nothing was lost; try again."))
}
