//! Many clients at once: each gets the answer that it would get alone.

use serde_json::{Value, json};

use crate::support::agent::{Dialect, request};
use crate::support::teacher::Teacher;

#[test]
fn hundreds_of_conversations_at_once_do_not_mix() {
    let teacher = Teacher::start(&[]);
    let ask = |index: usize| -> Value {
        let prompt = format!("Something is wrong with `function_{index}` in /testbed/part_{index}.py.");
        let mut messages = vec![json!({"role": "user", "content": prompt})];
        for _ in 0..2 {
            let answer = teacher.complete(&request(&messages, Dialect::Usual)).message();
            let id = answer["tool_calls"][0]["id"].clone();
            messages.extend([answer, json!({"role": "tool", "tool_call_id": id, "content": "/testbed\npart.py"})]);
        }
        messages[3].clone()
    };
    let alone: Vec<Value> = (0..8).map(ask).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..200).map(|index| scope.spawn(move || (index % 8, ask(index % 8)))).collect();
        for thread in threads {
            let (index, answer) = thread.join().unwrap();
            assert_eq!(answer, alone[index]);
            assert!(answer.to_string().contains(&format!("function_{index}")), "{answer}");
        }
    });
}
