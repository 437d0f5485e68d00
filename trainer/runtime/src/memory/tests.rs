use super::*;

const GB: u64 = 1_000_000_000;

/// 1 GB of parameters, Adam, 4 leaves, many steps.
fn model() -> Model {
    Model {
        parameters: GB,
        slots: 2,
        leaves: 4,
        steps: 100,
    }
}

fn worker(threads: u64, data: u64) -> Part {
    Part::Worker { threads, data }
}

fn server(range: u64, workers: u64) -> Part {
    Part::Server { range, workers }
}

#[test]
fn t20_a_worker_holds_arenas_and_for_each_thread_sums_and_gradients() {
    let of = |threads, data| footprint(&model(), worker(threads, data));
    let expected = |least, most| Footprint { least, most };
    assert_eq!(of(1, 0), expected(4 * GB, 5 * GB));
    assert_eq!(of(2, 7), expected(4 * GB + 7, 8 * GB + 7));
    // More threads than leaves have nothing to do.
    assert_eq!(of(64, 0), of(4, 0));
    let once = Model {
        steps: 1,
        ..model()
    };
    assert_eq!(footprint(&once, worker(1, 0)).least, 3 * GB);
}

#[test]
fn t20_a_server_holds_versions_slots_and_pushes_of_its_range() {
    let of = |range, workers| footprint(&model(), server(range, workers));
    let one = of(GB, 1);
    assert_eq!((one.least, one.most), (4 * GB, 9 * GB));
    // Two values of a chunk can wait for each other where four leaves are.
    assert_eq!(of(GB, 4).most, 10 * GB);
    assert_eq!(of(GB / 2, 1).least, 2 * GB, "half of the range");
    let sgd = Model {
        slots: 0,
        ..model()
    };
    let sgd = footprint(&sgd, server(GB, 1));
    assert_eq!((sgd.least, sgd.most), (2 * GB, 5 * GB));
}

#[test]
fn t20_what_a_machine_must_hold_is_no_more_than_is_certain() {
    let of = |company: Company| company.footprint(&model());
    let company = Company {
        servers: 1,
        workers: 1,
        threads: 1,
        data: 0,
    };
    assert_eq!(of(company).least, (4 + 4) * GB);
    assert_eq!(of(company).most, (9 + 5) * GB);
    let many = Company {
        workers: 16,
        data: 5,
        ..company
    };
    // Four have a leaf, and one of these gradients; all have the data.
    assert_eq!(of(many).least, (4 + 4 * 3 + 1) * GB + 16 * 5);
    let servers = Company {
        servers: 8,
        ..company
    };
    assert_eq!(of(servers), of(company), "they share the range");
    // The largest model that can be addressed, on the most workers.
    let largest = Model {
        parameters: 1 << 50,
        ..model()
    };
    let most = Company {
        servers: 256,
        workers: 1024,
        threads: 1024,
        data: u64::MAX,
    };
    assert_eq!(most.footprint(&largest).most, u64::MAX);
}

#[test]
fn t20_only_the_certain_minimum_is_refused() {
    let there = |bytes| Bound {
        bytes,
        by: "the memory of this machine".into(),
    };
    let needed = Footprint {
        least: 8 * GB,
        most: 14 * GB,
    };
    let fit = |bytes| fit("the job", needed, Some(&there(bytes)), "use less");
    assert_eq!(fit(14 * GB), Fit::Fits);
    assert_eq!(
        fit(14 * GB - 1),
        Fit::Tight(
            "the job may not fit in memory: it takes between 8.0 GB and 14 GB, and there are 14 GB (the memory of this \
             machine); if it does not, use less"
                .into()
        )
    );
    assert!(matches!(fit(8 * GB), Fit::Tight(_)));
    assert_eq!(
        fit(8 * GB - 1).warning().map_err(|error| error.0),
        Err(
            "the job cannot fit in memory: it takes at least 8.0 GB, and there are 8.0 GB (the memory of this \
             machine); use less"
                .into()
        )
    );
    assert_eq!(
        super::fit("the job", needed, None, "use less"),
        Fit::Fits,
        "where the system does not tell"
    );
}

#[test]
fn t20_a_process_that_got_no_memory_is_known_by_what_it_says() {
    for said in [
        "memory allocation of 17179869184 bytes failed\n",
        "thread 'main' panicked at arena.rs:\ncalled `Result::unwrap()`: Torch(\"[enforce fail at alloc_cpu.cpp:118] err == 0. \
         DefaultCPUAllocator: can't allocate memory: you tried to allocate 17179869184 bytes. Error code 12 (Cannot allocate memory)",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.",
        "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n",
        "error: logs: Cannot allocate memory (os error 12)",
    ] {
        assert!(was_refused(said), "{said}");
    }
    for said in [
        "",
        "panicked at memory.rs",
        "error: the CSV has memory allocation of rows",
    ] {
        assert!(!was_refused(said), "{said}");
    }
}
