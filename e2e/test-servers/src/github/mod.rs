//! Answers in the shapes of GitHub's public REST description: the issues of a repository (`issue`), tokens of an App's installation (`app`), pages,
//! entity tags, limits, and what goes wrong (`fault`).

mod app;
mod fault;
mod issue;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::served::Served;
pub use app::App;
pub use fault::Fault;
pub use issue::Issue;

/// Where GitHub Enterprise Server has its API.
const PREFIX: &str = "/api/v3";
/// The repository's number, in the addresses of later pages.
const REPOSITORY_ID: u32 = 1_296_269;
/// Requests that a stranger may make in an hour.
const LIMIT: u32 = 60;

/// A running server with one repository, `acme/billing`; it ends when it is dropped.
pub struct GitHubServer {
    served: Served,
    shared: Arc<Shared>,
}

/// A request that came in, and the status of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its path and query.
    pub target: String,
    /// The header `Authorization`, where it has one.
    pub authorization: Option<String>,
    /// What it was answered with.
    pub status: u16,
}

struct Shared {
    origin: String,
    state: Mutex<Repository>,
}

/// What there is, and what happened.
#[derive(Default)]
struct Repository {
    issues: Vec<Issue>,
    token: Option<String>,
    app: Option<App>,
    faults: VecDeque<Fault>,
    requests: Vec<Request>,
}

impl GitHubServer {
    /// Starts a server whose repository has these issues, newest first.
    pub fn start(tls: bool, issues: Vec<Issue>) -> anyhow::Result<Self> {
        let mut shared = None;
        let served = Served::start(tls, |origin| {
            let repository = Mutex::new(Repository { issues, ..Repository::default() });
            let made = shared.insert(Arc::new(Shared { origin: origin.to_owned(), state: repository }));
            Router::new().fallback(answer).with_state(Arc::clone(made))
        })?;
        shared.map(|shared| Self { served, shared }).ok_or_else(|| anyhow::anyhow!("the server was not made"))
    }

    /// The API's address, as an Enterprise Server has it.
    pub fn api_url(&self) -> String {
        format!("{}{PREFIX}", self.served.origin())
    }

    /// The certificate of the CA that a client has to trust, in PEM; none without TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.served.ca_pem()
    }

    /// Lets in only who shows this token, from now on.
    pub fn require_token(&self, token: &str) {
        self.shared.state().token = Some(token.to_owned());
    }

    /// Gives out its token as the token of this App's installation, from now on.
    pub fn install(&self, app: App) {
        self.shared.state().app = Some(app);
    }

    /// Replaces the issues.
    pub fn set_issues(&self, issues: Vec<Issue>) {
        self.shared.state().issues = issues;
    }

    /// The next requests meet these, one each, and those after them none.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.state().faults.extend(faults);
    }

    /// What came in so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Repository> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Response {
    let (head, _) = request.into_parts();
    let fault = shared.state().faults.pop_front();
    let response = match fault {
        Some(fault) => fault.answer().await,
        None => None,
    };
    let response = response.unwrap_or_else(|| shared.serve(&head.method, &head.uri, &head.headers));
    shared.state().requests.push(Request {
        target: head.uri.to_string(),
        authorization: text(&head.headers, header::AUTHORIZATION.as_str()).map(str::to_owned),
        status: response.status().as_u16(),
    });
    response
}

impl Shared {
    fn serve(&self, method: &Method, uri: &axum::http::Uri, headers: &HeaderMap) -> Response {
        let Some(path) = uri.path().strip_prefix(PREFIX) else { return not_found() };
        let state = self.state();
        let bearer = text(headers, header::AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
        if let Some(app) = state.app.as_ref().filter(|app| path == app.path() && method == Method::POST) {
            return app.answer(bearer.unwrap_or_default(), state.token.as_deref().unwrap_or_default());
        }
        if state.token.is_some() && state.token.as_deref() != bearer {
            return message(StatusCode::UNAUTHORIZED, "Bad credentials");
        }
        let listing = [format!("/repositories/{REPOSITORY_ID}/issues"), "/repos/acme/billing/issues".to_owned()];
        if method != Method::GET || !listing.iter().any(|known| known == path) {
            return not_found();
        }
        self.page(&state.issues, uri.query().unwrap_or_default(), text(headers, "if-none-match"))
    }

    /// A page of issues. Later ones are found by a cursor, and under the repository's number.
    fn page(&self, issues: &[Issue], query: &str, known: Option<&str>) -> Response {
        let parameter = |name: &str| {
            url::form_urlencoded::parse(query.as_bytes())
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
        };
        let size = parameter("per_page").and_then(|size| size.parse().ok()).unwrap_or(30).min(100);
        let page: usize = parameter("page").and_then(|page| page.parse().ok()).unwrap_or(1);
        let begin = match parameter("after") {
            Some(cursor) => {
                issues.iter().position(|issue| cursor == issue.cursor()).map_or(issues.len(), |last| last + 1)
            }
            None => 0,
        };
        let rest = issues.get(begin..).unwrap_or_default();
        let shown = rest.get(..size).unwrap_or(rest);
        let body = Value::from(shown.iter().map(|issue| issue.to_json(&self.origin)).collect::<Vec<_>>()).to_string();
        let etag = format!("W/\"{}\"", hex::encode(Sha256::digest(&body)));

        let mut response = if known == Some(etag.as_str()) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], Body::from(body)).into_response()
        };
        let headers = response.headers_mut();
        insert(headers, "etag", &etag);
        insert(headers, "cache-control", "private, max-age=60, s-maxage=60");
        insert(headers, "x-github-media-type", "github.v3; format=json");
        insert(headers, "x-ratelimit-limit", &LIMIT.to_string());
        insert(headers, "x-ratelimit-remaining", &(LIMIT - 1).to_string());
        insert(headers, "x-ratelimit-resource", "core");
        let last = shown.last().filter(|_| rest.len() > size);
        if let Some(last) = last.filter(|_| response.status() == StatusCode::OK) {
            let pages = format!(
                "{}{PREFIX}/repositories/{REPOSITORY_ID}/issues?state=all&sort=created&direction=desc",
                self.origin
            );
            let next = format!("{pages}&per_page={size}&after={}&page={}", last.cursor(), page + 1);
            let first = format!("{pages}&per_page={size}&page=1");
            insert(response.headers_mut(), "link", &format!("<{first}>; rel=\"first\", <{next}>; rel=\"next\""));
        }
        response
    }
}

fn not_found() -> Response {
    message(StatusCode::NOT_FOUND, "Not Found")
}

/// An error as GitHub words it.
fn message(status: StatusCode, message: &str) -> Response {
    let body =
        json!({"message": message, "documentation_url": "https://docs.github.com/rest", "status": status.as_str()});
    (status, [(header::CONTENT_TYPE, "application/json; charset=utf-8")], body.to_string()).into_response()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = value.parse() {
        headers.insert(name, value);
    }
}
