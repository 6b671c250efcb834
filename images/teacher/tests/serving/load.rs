//! Many clients at once, clients that hang up, too many of them, and an end in the middle of it.

use std::io::BufRead;

use serde_json::{Value, json};

use crate::models::Folder;
use crate::program::{Server, asking, rest};

#[test]
fn sixteen_clients_at_once_are_answered_as_each_is_alone() {
    let folder = Folder::random();
    let server = Server::start(&folder.path(), &["--prefill-chunk", "32"]);
    let request = |client: usize| {
        let content = format!("{} {}", "Take care. ".repeat(client), client);
        asking(&content, &json!({"temperature": 1.0, "seed": client, "max_tokens": 40}))
    };
    let message = |answer: Value| (answer["choices"][0].clone(), answer["usage"]["completion_tokens"].clone());
    let together: Vec<_> = std::thread::scope(|scope| {
        let (server, request) = (&server, &request);
        let clients: Vec<_> =
            (0..16).map(|client| scope.spawn(move || server.complete(&request(client)).json())).collect();
        clients.into_iter().map(|client| message(client.join().unwrap())).collect()
    });
    let alone = Server::start(&folder.path(), &["--max-batch", "1"]);
    for (client, together) in together.into_iter().enumerate() {
        assert_eq!(message(alone.complete(&request(client)).json()), together, "client {client}");
    }
}

#[test]
fn too_many_are_refused_for_now_and_hanging_up_makes_room() {
    let folder = Folder::talker();
    let server = Server::start(&folder.path(), &["--max-batch", "1", "--max-queue", "0"]);
    let stream = server.stream(&asking("Go.", &json!({})));
    let refused = server.complete(&asking("Go.", &json!({"max_tokens": 3})));
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (429, &json!("rate_limit_exceeded")));
    assert!(refused.header("retry-after").is_some());
    drop(stream);
    server.wait_until("there is room", || server.complete(&asking("Go.", &json!({"max_tokens": 3}))).status == 200);
    server.wait_until("no block is held", || server.metric("sera_serving_cache_blocks_used") == 0);
}

#[test]
fn a_client_that_leaves_before_its_whole_answer_came_is_not_answered_to_the_end() {
    let folder = Folder::talker();
    let server = Server::start(&folder.path(), &[]);
    let connection = server.send(&asking("Go.", &json!({})));
    server.wait_until("it is being answered", || server.metric("sera_serving_running") == 1);
    drop(connection);
    server.wait_until("it is noticed", || {
        server.metrics().contains("sera_serving_requests_total{outcome=\"hung_up\"} 1")
    });
    server.wait_until("no block is held", || server.metric("sera_serving_cache_blocks_used") == 0);
}

#[test]
fn told_to_stop_it_finishes_what_is_under_way() {
    let folder = Folder::talker();
    let mut server = Server::start(&folder.path(), &[]);
    let mut stream = server.stream(&asking("Go.", &json!({"max_tokens": 300})));
    let mut line = String::new();
    while !line.contains("\"content\":\"a") {
        line.clear();
        stream.read_line(&mut line).unwrap();
    }
    server.terminate();
    let rest = rest(stream);
    assert!(rest.contains("\"finish_reason\":\"length\"") && rest.contains("data: [DONE]"), "{rest}");
    assert_eq!(server.wait().code(), Some(0));
}
