use super::*;

fn actor(warp: u32, lane: u32, sync: u32) -> Actor {
    Actor {
        warp,
        lane,
        pc: 7,
        sync,
        strong: false,
    }
}

fn new(precise: bool) -> (Order, Shadow) {
    let mut order = Order::new(4, 1, precise);
    order.begin_block();
    let shadow = Shadow::new(64, 2, &order);
    (order, shadow)
}

#[test]
fn a_barrier_orders_writes_before_reads() {
    let (mut order, mut shadow) = new(false);
    assert_eq!(
        shadow.read(0, &order, &actor(0, 0, 0)),
        Err(Conflict::Uninitialised)
    );
    assert_eq!(shadow.write(0, &order, &actor(0, 3, 0), false), Ok(()));
    assert_eq!(
        shadow.read(0, &order, &actor(1, 0, 0)),
        Err(Conflict::Written {
            warp: 0,
            lane: 3,
            pc: 7
        })
    );
    assert!(!shadow.read_fast::<1>([0].into_iter(), &order, 1));
    order.full_barrier();
    assert!(shadow.read_fast::<1>([0].into_iter(), &order, 1));
    assert_eq!(
        shadow.write(0, &order, &actor(0, 3, 0), false),
        Err(Conflict::ReadBy { warp: Some(1) })
    );
    assert!(!shadow.may_write_fast::<1>(0, &order, 0));
    order.full_barrier();
    assert!(shadow.may_write_fast::<1>(0, &order, 0));
    order.begin_block();
    assert_eq!(
        shadow.read(0, &order, &actor(0, 0, 0)),
        Err(Conflict::Uninitialised)
    );
}

#[test]
fn lanes_of_a_warp_need_a_warp_level_synchronisation() {
    let (order, mut shadow) = new(false);
    assert_eq!(shadow.write(1, &order, &actor(2, 5, 0), false), Ok(()));
    assert_eq!(shadow.read(1, &order, &actor(2, 5, 0)), Ok(()));
    assert!(shadow.read(1, &order, &actor(2, 6, 0)).is_err());
    assert_eq!(shadow.read(1, &order, &actor(2, 6, 1)), Ok(()));
    // The same value may be written twice.
    assert_eq!(shadow.write(1, &order, &actor(2, 8, 0), true), Ok(()));
}

#[test]
fn barriers_of_some_warps_order_only_those() {
    let (mut order, mut shadow) = new(true);
    assert_eq!(shadow.write(2, &order, &actor(0, 0, 0), false), Ok(()));
    let times = [(0, order.arrive()), (1, order.arrive())];
    order.join(&times, &[0, 1]);
    assert_eq!(shadow.read(2, &order, &actor(1, 0, 0)), Ok(()));
    assert!(shadow.read(2, &order, &actor(2, 0, 0)).is_err());
    // The reader must arrive at a barrier before the writer may write again.
    assert!(shadow.write(2, &order, &actor(0, 0, 0), false).is_err());
    let times = [(1, order.arrive()), (0, order.arrive())];
    order.join(&times, &[0]);
    assert_eq!(shadow.write(2, &order, &actor(0, 0, 0), false), Ok(()));
}

#[test]
fn strong_accesses_race_with_plain_ones_only() {
    for precise in [false, true] {
        let (order, mut shadow) = new(precise);
        let strong = |warp| Actor {
            strong: true,
            ..actor(warp, 0, 0)
        };
        assert_eq!(shadow.write(3, &order, &strong(0), false), Ok(()));
        assert_eq!(shadow.read(3, &order, &strong(1)), Ok(()));
        assert_eq!(shadow.read(3, &order, &strong(2)), Ok(()));
        assert_eq!(shadow.write(3, &order, &strong(0), false), Ok(()));
        assert!(!shadow.may_write_fast::<1>(3, &order, 0));
        assert!(shadow.write(3, &order, &actor(0, 0, 0), false).is_err());
        // A unit that a warp wrote and read plainly must not be written by another, not even
        // strongly.
        assert_eq!(shadow.write(4, &order, &actor(1, 0, 0), false), Ok(()));
        assert_eq!(shadow.read(4, &order, &actor(1, 0, 0)), Ok(()));
        assert_eq!(
            shadow.write(4, &order, &strong(0), true),
            Err(Conflict::ReadBy { warp: Some(1) })
        );
    }
}

#[test]
fn small_units_are_told_apart() {
    let (mut order, _) = new(false);
    let mut shadow = Shadow::new(64, 0, &order);
    // Two warps write adjacent bytes of a word; a third one reads them too early, and one byte too
    // many.
    assert!(shadow.write_small(8, 2, &order, &actor(0, 0, 0), false));
    assert!(shadow.write_small(10, 1, &order, &actor(1, 0, 0), false));
    assert!(!shadow.write_small(9, 1, &order, &actor(1, 0, 0), false));
    assert!(!shadow.read_small([8].into_iter(), 2, &order, (2, 0)));
    order.full_barrier();
    assert!(shadow.read_small([8].into_iter(), 3, &order, (2, 0)));
    assert!(!shadow.read_small([8].into_iter(), 4, &order, (2, 0)));
    assert!(!shadow.write_small(10, 1, &order, &actor(1, 0, 0), false));
    order.full_barrier();
    assert!(shadow.write_small(8, 4, &order, &actor(1, 5, 0), true));
    let pending = Err(Conflict::Pending { warp: 1, lane: 5 });
    assert_eq!(shadow.read(11, &order, &actor(1, 5, 0)), pending);
    shadow.end_copy(8..12, &order, &actor(1, 5, 0));
    assert_eq!(shadow.read(11, &order, &actor(1, 5, 0)), Ok(()));
}

#[test]
fn parts_of_a_divided_unit_have_its_history() {
    let (mut order, _) = new(false);
    let mut shadow = Shadow::with_units(64, 1, 4, &order);
    assert!(shadow.write_small(1, 1, &order, &actor(1, 3, 0), false));
    assert!(shadow.begin_copy_fast::<1>(2, &order, &actor(1, 4, 0)));
    shadow.divide(4);
    assert_eq!(shadow.shift, 2);
    assert_eq!(shadow.read(7, &order, &actor(1, 3, 0)), Ok(()));
    let written = Conflict::Written {
        warp: 1,
        lane: 3,
        pc: 7,
    };
    assert_eq!(shadow.read(4, &order, &actor(0, 0, 0)), Err(written));
    assert_eq!(
        shadow.read(3, &order, &actor(0, 0, 0)),
        Err(Conflict::Uninitialised)
    );
    let pending = Err(Conflict::Pending { warp: 1, lane: 4 });
    assert_eq!(shadow.read(11, &order, &actor(1, 4, 0)), pending);
    // Units cannot be smaller than the smallest access.
    shadow.divide(1);
    assert_eq!(shadow.shift, 1);
    assert_eq!(shadow.read(15, &order, &actor(1, 3, 0)), Ok(()));
    // Another unit of 16 bytes, divided with a reader.
    order.full_barrier();
    let mut shadow = Shadow::with_units(64, 1, 4, &order);
    assert!(shadow.write_small(0, 1, &order, &actor(1, 3, 0), false));
    order.full_barrier();
    assert!(shadow.read_small([0].into_iter(), 1, &order, (2, 0)));
    assert!(shadow.divide_all() && !shadow.divide_all());
    let read = Err(Conflict::ReadBy { warp: Some(2) });
    assert_eq!(shadow.write(7, &order, &actor(1, 3, 0), false), read);
    assert_eq!(shadow.write(8, &order, &actor(1, 3, 0), false), Ok(()));
    order.begin_block();
    shadow.begin_block();
    assert_eq!(shadow.shift, 4);
    assert_eq!(
        shadow.read(0, &order, &actor(1, 3, 0)),
        Err(Conflict::Uninitialised)
    );
}

#[test]
fn a_copy_is_pending_until_its_wait() {
    let (mut order, mut shadow) = new(false);
    assert!(shadow.begin_copy_fast::<4>(4, &order, &actor(1, 9, 0)));
    order.full_barrier();
    let pending = Err(Conflict::Pending { warp: 1, lane: 9 });
    assert_eq!(shadow.read(5, &order, &actor(1, 9, 0)), pending);
    assert_eq!(shadow.write(5, &order, &actor(0, 0, 0), false), pending);
    shadow.end_copy(5..6, &order, &actor(1, 9, 0));
    assert_eq!(shadow.read(5, &order, &actor(1, 9, 0)), Ok(()));
    assert!(shadow.read(5, &order, &actor(0, 0, 0)).is_err());
    order.full_barrier();
    assert_eq!(shadow.read(5, &order, &actor(0, 0, 0)), Ok(()));
}
