//! How ranks meet, and how they do not.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use sera_trainer::ranks::{Master, Options, Place, RankError, RendezvousError, join};

use crate::world::{every_rank, free_port, options, place};

fn brief() -> Options {
    Options { deadline: Duration::from_secs(2), ..options() }
}

/// What a rank is told while the others wait for the right one, which comes in the end.
fn refused(stray: &Place, of: &Options, world: usize, before: usize) -> String {
    let port = stray.master.port;
    thread::scope(|scope| {
        let come =
            |rank: usize| scope.spawn(move || join(&place(rank, world, port), &options()).unwrap().barrier().unwrap());
        let mut ranks: Vec<_> = (0..before).map(come).collect();
        // One who comes before another with its number is not the stray one.
        if before > 1 {
            thread::sleep(Duration::from_millis(500));
        }
        let said = join(stray, of).map(|_| ()).unwrap_err().to_string();
        ranks.extend((before..world).map(come));
        ranks.into_iter().for_each(|rank| rank.join().unwrap());
        said
    })
}

#[test]
fn a_rank_of_another_attempt_is_refused_with_words_and_the_others_meet() {
    let stale = Options { job: "the attempt before".into(), ..options() };
    let said = refused(&place(1, 2, free_port()), &stale, 2, 1);
    assert!(said.contains("\"the attempt before\"") && said.contains("SERA_RENDEZVOUS_ID"), "{said}");
    assert!(!said.contains('\n') && said.contains("refuses rank 1"), "{said}");
}

#[test]
fn a_rank_of_a_larger_world_is_refused_and_the_others_meet() {
    let said = refused(&place(1, 3, free_port()), &options(), 2, 1);
    assert!(said.contains("its WORLD_SIZE is 3 and rank 0's is 2"), "{said}");
}

#[test]
fn a_second_rank_of_one_number_is_refused_and_the_others_meet() {
    let said = refused(&place(1, 3, free_port()), &options(), 3, 2);
    assert!(said.contains("another process is rank 1") && said.contains("RANK"), "{said}");
}

#[test]
fn a_rank_that_dies_while_it_waits_may_come_again() {
    let port = free_port();
    thread::scope(|scope| {
        let host = scope.spawn(move || join(&place(0, 3, port), &options()).unwrap().barrier());
        let gave_up = join(&place(1, 3, port), &brief()).map(|_| ()).unwrap_err();
        assert!(gave_up.to_string().contains("it waits for other ranks"), "{gave_up}");
        let others: Vec<_> =
            [1, 2].map(|rank| scope.spawn(move || join(&place(rank, 3, port), &options()).unwrap().barrier())).into();
        others.into_iter().for_each(|rank| rank.join().unwrap().unwrap());
        host.join().unwrap().unwrap();
    });
}

#[test]
fn a_port_in_use_is_named_with_its_variable() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = join(&place(0, 2, port), &brief()).map(|_| ()).unwrap_err();
    assert!(matches!(error, RendezvousError::PortInUse { port: named } if named == port), "{error}");
    assert!(error.to_string().starts_with("MASTER_PORT: port"), "{error}");
}

#[test]
fn ranks_that_do_not_come_are_named_to_all_who_did() {
    let port = free_port();
    let said: Vec<_> = thread::scope(|scope| {
        let ranks: Vec<_> = [(0, brief()), (2, options())]
            .into_iter()
            .map(|(rank, options)| {
                scope.spawn(move || join(&place(rank, 4, port), &options).map(|_| ()).unwrap_err().to_string())
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    });
    assert!(said.iter().all(|said| said.contains("ranks 1 and 3 of 4 did not come within 2 s")), "{said:?}");
}

#[test]
fn a_rank_0_that_is_not_there_is_named_with_its_variables() {
    let error = join(&place(1, 2, free_port()), &brief()).map(|_| ()).unwrap_err();
    assert!(error.to_string().starts_with("MASTER_ADDR and MASTER_PORT: rank 0 did not answer"), "{error}");
}

#[test]
fn a_host_without_an_address_is_named_with_its_variable() {
    let master = Master { host: "job-0.gang.invalid".into(), port: 1 };
    let error = join(&Place { master, ..place(1, 2, 1) }, &brief()).map(|_| ()).unwrap_err();
    assert!(error.to_string().starts_with("MASTER_ADDR: job-0.gang.invalid did not resolve"), "{error}");
}

#[test]
fn a_server_of_another_kind_is_not_taken_for_rank_0() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = server.accept().unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
            drop(server);
            let _ = stream.read(&mut [0; 64]);
        });
        let error = join(&place(1, 2, port), &brief()).map(|_| ()).unwrap_err();
        assert!(matches!(error, RendezvousError::Unreached { .. }), "{error}");
    });
}

#[test]
fn whoever_only_looks_at_the_port_is_passed_over() {
    let port = free_port();
    thread::scope(|scope| {
        let host = scope.spawn(move || join(&place(0, 2, port), &options()).unwrap().barrier());
        let silent = loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => break stream,
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        };
        let mut loud = TcpStream::connect(("127.0.0.1", port)).unwrap();
        loud.write_all(&[0xff; 100]).unwrap();
        join(&place(1, 2, port), &options()).unwrap().barrier().unwrap();
        host.join().unwrap().unwrap();
        drop(silent);
    });
}

#[test]
fn ranks_that_do_different_things_are_told_which() {
    for (world, strange) in [(2, 1), (4, 2), (4, 0)] {
        let said = every_rank(world, &options(), |ranks| {
            ranks.barrier().unwrap();
            let mut values = [1.0f32; 10];
            let done = if ranks.rank() == strange {
                ranks.reduce_scatter(&mut values, &(0..=world).map(|rank| rank * 10 / world).collect::<Vec<_>>())
            } else {
                ranks.all_reduce(&mut values)
            };
            done.unwrap_err().to_string()
        });
        assert!(said.iter().all(|one| *one == said[0]), "{said:?}");
        assert!(said[0].contains("all_reduce number 1") && said[0].contains("reduce_scatter number 1"), "{said:?}");
        assert!(said[0].contains(&format!("rank {strange} does")), "{said:?}");
    }
}

#[test]
fn other_lengths_and_other_bounds_are_no_mixture() {
    let said =
        every_rank(2, &options(), |ranks| ranks.all_reduce(&mut vec![0.0; 10 + ranks.rank()]).unwrap_err().to_string());
    assert!(said[0].contains("40 bytes") && said[1].contains("44 bytes"), "{said:?}");
    let said = every_rank(2, &options(), |ranks| {
        ranks.all_gather(&mut [0.0; 10], &[0, 5 + ranks.rank(), 10]).unwrap_err().to_string()
    });
    assert!(said[0] == said[1] && said[0].contains("all_gather"), "{said:?}");
}

#[test]
fn bounds_that_are_none_are_named_to_all() {
    let said = every_rank(2, &options(), |ranks| {
        let bounds: &[usize] = if ranks.rank() == 0 { &[0, 4] } else { &[0, 2, 4] };
        ranks.reduce_scatter(&mut [0.0; 4], bounds).unwrap_err().to_string()
    });
    assert!(said.iter().all(|said| said.contains("2 bounds up to 4, where 3")), "{said:?}");
}

#[test]
fn a_rank_that_leaves_early_is_named_and_what_was_begun_comes_to_its_end() {
    for (world, leaver) in [(2, 0), (2, 1), (4, 0), (4, 2)] {
        let found = every_rank(world, &options(), |ranks| {
            let mut values = vec![1.0f32; 100_000];
            ranks.all_reduce(&mut values).unwrap();
            (ranks.rank() != leaver).then(|| ranks.all_reduce(&mut values).unwrap_err())
        });
        for error in found.into_iter().flatten() {
            let RankError::Lost { rank, collective, number, reason, .. } = error else { panic!("{error}") };
            assert_eq!((rank, collective, number), (leaver, "all_reduce", 1), "{reason}");
            assert!(reason.contains("it left after 1 collectives"), "{reason}");
        }
    }
}

#[test]
fn a_long_computation_is_no_silence() {
    let impatient = Options { silence: Duration::from_secs(2), ..options() };
    every_rank(3, &impatient, |ranks| {
        ranks.barrier().unwrap();
        if ranks.rank() == 1 {
            thread::sleep(Duration::from_secs(5));
        }
        ranks.barrier().unwrap();
    });
}

#[test]
fn what_a_rank_has_sent_arrives_though_it_has_left() {
    let impatient = Options { silence: Duration::from_secs(2), ..options() };
    let came = every_rank(2, &impatient, |ranks| {
        let mut bytes = Vec::new();
        if ranks.rank() == 0 {
            bytes = vec![7; 1_000_000];
        } else {
            // The other has left by now, and has been beaten to since.
            thread::sleep(Duration::from_secs(1));
        }
        ranks.broadcast(0, &mut bytes).unwrap();
        bytes.len()
    });
    assert_eq!(came, [1_000_000; 2]);
}
