//! An issue in the shape of GitHub's REST description; pull requests are issues too.

use serde_json::{Value, json};

/// An issue of `acme/billing`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Its number.
    pub number: u64,
    /// Its title.
    pub title: String,
    /// Its text; none where nothing was written.
    pub body: Option<String>,
    /// The account that opened it; none where that is gone.
    pub login: Option<String>,
    /// The account's type: `User` or `Bot`.
    pub kind: &'static str,
    /// Whether it is a pull request.
    pub pull_request: bool,
}

impl Issue {
    /// An issue that a person opened.
    pub fn new(number: u64, title: impl Into<String>, body: impl Into<String>) -> Self {
        Self {
            number,
            title: title.into(),
            body: Some(body.into()),
            login: Some("octocat".to_owned()),
            kind: "User",
            pull_request: false,
        }
    }

    /// What finds the page after it.
    pub(super) fn cursor(&self) -> String {
        format!("Y3Vyc29y{}", self.number)
    }

    pub(super) fn to_json(&self, origin: &str) -> Value {
        let number = self.number;
        let repository = format!("{origin}/api/v3/repos/acme/billing");
        let page = format!("{origin}/acme/billing");
        let user = self.login.as_ref().map(|login| {
            json!({
                "login": login, "id": 1, "node_id": "MDQ6VXNlcjE=", "avatar_url": format!("{origin}/avatars/u/1"), "gravatar_id": "",
                "url": format!("{origin}/api/v3/users/{login}"), "html_url": format!("{origin}/{login}"), "type": self.kind, "site_admin": false,
            })
        });
        let mut issue = json!({
            "url": format!("{repository}/issues/{number}"), "repository_url": repository, "labels_url": format!("{repository}/issues/{number}/labels{{/name}}"),
            "comments_url": format!("{repository}/issues/{number}/comments"), "events_url": format!("{repository}/issues/{number}/events"),
            "html_url": format!("{page}/issues/{number}"), "id": 1_000_000 + number, "node_id": format!("MDU6SXNzdWU{number}"), "number": number,
            "title": self.title, "user": user, "labels": [], "state": "closed", "locked": false, "assignee": null, "assignees": [], "milestone": null,
            "comments": 2, "created_at": "2024-04-22T13:33:48Z", "updated_at": "2024-05-01T09:12:00Z", "closed_at": "2024-05-01T09:12:00Z",
            "author_association": "CONTRIBUTOR", "active_lock_reason": null, "body": self.body, "closed_by": null,
            "reactions": {"url": format!("{repository}/issues/{number}/reactions"), "total_count": 0, "+1": 0, "-1": 0},
            "timeline_url": format!("{repository}/issues/{number}/timeline"), "performed_via_github_app": null, "state_reason": "completed",
        });
        if self.pull_request {
            issue["pull_request"] = json!({
                "url": format!("{repository}/pulls/{number}"), "html_url": format!("{page}/pull/{number}"), "diff_url": format!("{page}/pull/{number}.diff"),
                "patch_url": format!("{page}/pull/{number}.patch"), "merged_at": null,
            });
        }
        issue
    }
}
