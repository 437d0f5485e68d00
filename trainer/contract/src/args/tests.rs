use super::*;

fn member(index: u32) -> MemberArgs {
    MemberArgs {
        job: "/etc/trainyard/job.json".into(),
        index,
        coordinator: "a-coordinator.team.svc:7000".into(),
        ..MemberArgs::default()
    }
}

/// What operators have emitted since the first release: images that are older or newer than the operator must understand it.
#[test]
fn the_lines_of_pods_are_fixed() {
    let in_pod = |index| MemberArgs {
        http: Some("0.0.0.0:8080".into()),
        termination_message: Some("/dev/termination-log".into()),
        ..member(index)
    };
    let server = ServerArgs {
        member: in_pod(1),
        servers: 2,
        generation: 9,
        storage: "/storage/a-01234567".into(),
        listen: Some("0.0.0.0:7000".into()),
        advertise: Some("$(TRAINYARD_POD_IP):7000".into()),
        ..ServerArgs::default()
    };
    let expected = [
        "server",
        "--job=/etc/trainyard/job.json",
        "--index=1",
        "--coordinator=a-coordinator.team.svc:7000",
        "--http=0.0.0.0:8080",
        "--termination-message=/dev/termination-log",
        "--servers=2",
        "--generation=9",
        "--listen=0.0.0.0:7000",
        "--advertise=$(TRAINYARD_POD_IP):7000",
        "--storage=/storage/a-01234567",
    ];
    assert_eq!(server.to_args(), expected);
    let worker = WorkerArgs {
        member: in_pod(3),
        data: "/data".into(),
        ..WorkerArgs::default()
    };
    let expected = [
        "worker",
        "--job=/etc/trainyard/job.json",
        "--index=3",
        "--coordinator=a-coordinator.team.svc:7000",
        "--http=0.0.0.0:8080",
        "--termination-message=/dev/termination-log",
        "--data=/data",
    ];
    assert_eq!(worker.to_args(), expected);
    let finisher = FinisherArgs {
        job: "/etc/trainyard/job.json".into(),
        storage: "/storage/a-01234567".into(),
        termination_message: Some("/dev/termination-log".into()),
        supervision: Supervision::default(),
    };
    let expected = [
        "finisher",
        "--job=/etc/trainyard/job.json",
        "--storage=/storage/a-01234567",
        "--termination-message=/dev/termination-log",
    ];
    assert_eq!(finisher.to_args(), expected);
}

#[test]
fn options_that_are_not_set_are_left_out() {
    let server = ServerArgs {
        member: member(0),
        servers: 1,
        generation: 1,
        storage: "s3://runs/a".into(),
        ..ServerArgs::default()
    };
    assert_eq!(server.to_args().len(), 1 + 3 + 3);
    let worker = WorkerArgs {
        member: member(0),
        data: ".".into(),
        ..WorkerArgs::default()
    };
    assert_eq!(worker.to_args().len(), 1 + 3 + 1);
}

#[cfg(feature = "cli")]
mod parsed {
    use super::*;

    /// Texts that a careless builder or parser would change.
    const ODD: [&str; 6] = ["/a b/c", "-x", "--grace=3", "a=b", "$(HOME)\"'", "größe\n"];

    /// An option for each bit of `set`, from the lowest one on.
    struct Bits(u32);

    impl Bits {
        fn option<T>(&mut self, value: T) -> Option<T> {
            let set = self.0 & 1 == 1;
            self.0 >>= 1;
            set.then_some(value)
        }
    }

    fn common(bits: &mut Bits, text: &str, number: u32) -> MemberArgs {
        MemberArgs {
            job: format!("job{text}"),
            index: number,
            initial_model: bits.option(format!("{text}/initial")),
            coordinator: text.into(),
            http: bits.option(format!("{text}:1")),
            key_file: bits.option(format!("{text}/key")),
            termination_message: bits.option(text.into()),
            supervision: supervision(bits, number),
        }
    }

    fn supervision(bits: &mut Bits, number: u32) -> Supervision {
        Supervision {
            supervised: bits.option(number),
            alive_fd: bits.option((number >> 2) as i32),
        }
    }

    fn commands(set: u32) -> [MemberCommand; 3] {
        let text = ODD[set as usize % ODD.len()];
        let number = set.wrapping_mul(2_654_435_761);
        let fd = (number >> 1) as i32;
        let mut bits = Bits(set);
        let server = ServerArgs {
            member: common(&mut bits, text, number),
            servers: number ^ 1,
            generation: number ^ 2,
            storage: format!("storage{text}"),
            listen: bits.option(format!("listen{text}")),
            advertise: bits.option(format!("advertise{text}")),
            grace: bits.option(u64::from(number) << 20),
            listen_fd: bits.option(fd),
            http_fd: bits.option(fd ^ 1),
        };
        let mut bits = Bits(set);
        let worker = WorkerArgs {
            member: common(&mut bits, text, number),
            data: format!("data{text}"),
            threads: bits.option(1 + (number % 1024) as u16),
            connections: bits.option(number),
            local_servers: bits.option(number ^ 1),
            local_workers: bits.option(number ^ 2),
        };
        let mut bits = Bits(set);
        let finisher = FinisherArgs {
            job: format!("job{text}"),
            storage: format!("storage{text}"),
            termination_message: bits.option(text.into()),
            supervision: supervision(&mut bits, number),
        };
        [
            MemberCommand::Server(server),
            MemberCommand::Worker(worker),
            MemberCommand::Finisher(finisher),
        ]
    }

    /// Every subset of the eleven options of a server, and so of the fewer ones of the others.
    #[test]
    fn every_line_is_parsed_as_it_was_built() {
        for set in 0..1 << 11 {
            for command in commands(set) {
                let args = command.to_args();
                let parsed = MemberCommand::from_args(&args);
                assert_eq!(parsed.expect("a good line"), command, "{args:?}");
                assert_eq!(command.member().role.name(), args[0]);
            }
        }
    }

    #[test]
    fn a_supervisor_need_not_be_named_and_words_may_stand_apart() {
        let args = "worker --supervised --index 3 --job j --coordinator c --data d --threads 2";
        let parsed = MemberCommand::from_args(args.split(' ')).expect("a good line");
        let expected = WorkerArgs {
            member: MemberArgs {
                job: "j".into(),
                index: 3,
                coordinator: "c".into(),
                supervision: Supervision {
                    supervised: Some(0),
                    ..Supervision::default()
                },
                ..MemberArgs::default()
            },
            data: "d".into(),
            threads: Some(2),
            ..WorkerArgs::default()
        };
        assert_eq!(parsed, MemberCommand::Worker(expected));
    }

    #[test]
    fn what_is_missing_wrong_or_unknown_is_refused_by_name() {
        let good = "worker --index=0 --job=j --coordinator=c --data=d";
        for (args, names) in [
            ("", "subcommand"),
            ("observer", "observer"),
            ("worker --index=0 --job=j --coordinator=c", "--data"),
            (&format!("{good} --threads=0"), "--threads"),
            (&format!("{good} --servers=1"), "--servers"),
            (&format!("{good} --index=-1"), "--index"),
        ] {
            let words = args.split(' ').filter(|word| !word.is_empty());
            let error = MemberCommand::from_args(words).expect_err(args);
            assert!(error.to_string().contains(names), "{args}: {error}");
        }
    }
}
