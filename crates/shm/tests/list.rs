//! What a list promises: it behaves as a `Vec`, and a death at any store leaves it as it was before
//! or after the operation, with all memory accounted for.

use breakeven_shm::crash_points::run;
use breakeven_shm::{Arena, Container, ContainerError, Item, Items, List, Piece, Ticket};
use proptest::prelude::*;
use support::{Part as Element, any_part as any_element, part as element, *};

#[path = "support/containers.rs"]
mod support;

fn open(arena: &Arena, list: &List) -> List {
    List::open(arena, Ticket { id: list.id(), lender: 0 }).unwrap()
}

fn contents(list: &List) -> Vec<Element> {
    let mut items = Items::new();
    list.read(|len| (0, 1, len), &mut items).unwrap();
    let all = parts(&mut items);
    assert_eq!(list.len().unwrap(), all.len() as u64);
    all
}

fn append(list: &List, element: &Element) {
    list.append(7, &element.0, &mut blocks(&list.arena(), element)).unwrap();
}

fn set(list: &List, index: i64, element: &Element) -> Result<(), ContainerError> {
    list.set(index, 7, &element.0, &mut blocks(&list.arena(), element))
}

fn insert(list: &List, index: i64, element: &Element) {
    list.insert(index, 7, &element.0, &mut blocks(&list.arena(), element)).unwrap();
}

fn pop(list: &List, index: i64) -> Result<Element, ContainerError> {
    let mut item = Item::new();
    list.pop(index, None, &mut item)?;
    Ok(element(&mut item))
}

fn get(list: &List, index: i64) -> Result<Element, ContainerError> {
    let mut item = Item::new();
    assert!(list.get(index, true, &mut item)?);
    Ok(element(&mut item))
}

#[derive(Debug, Clone)]
enum Op {
    Append(Element),
    Set(i64, Element),
    Insert(i64, Element),
    Pop(i64),
    Get(i64),
    Extend(Vec<Element>),
    /// Replace `from..to` (in percent of the length) by these.
    Splice(u64, u64, Vec<Element>),
    Reverse,
    Clear,
}

fn any_op() -> impl Strategy<Value = Op> {
    let index = -12i64..12;
    prop_oneof![
        4 => any_element().prop_map(Op::Append),
        4 => (index.clone(), any_element()).prop_map(|(at, element)| Op::Set(at, element)),
        3 => (index.clone(), any_element()).prop_map(|(at, element)| Op::Insert(at, element)),
        3 => index.clone().prop_map(Op::Pop),
        2 => index.prop_map(Op::Get),
        2 => prop::collection::vec(any_element(), 0..8).prop_map(Op::Extend),
        2 => (0u64..=100, 0u64..=100, prop::collection::vec(any_element(), 0..4))
            .prop_map(|(from, to, new)| Op::Splice(from.min(to), from.max(to), new)),
        1 => Just(Op::Reverse),
        1 => Just(Op::Clear),
    ]
}

fn position(index: i64, len: usize) -> Option<usize> {
    let nth = if index < 0 { index + len as i64 } else { index };
    (0..len as i64).contains(&nth).then_some(nth as usize)
}

fn apply(list: &List, op: &Op) {
    let arena = list.arena();
    match op {
        Op::Append(new) => append(list, new),
        Op::Set(at, new) => drop(set(list, *at, new)),
        Op::Insert(at, new) => insert(list, *at, new),
        Op::Pop(at) => drop(pop(list, *at)),
        Op::Get(at) => drop(get(list, *at)),
        Op::Extend(new) => list.extend(&mut items(&arena, new), None).unwrap(),
        Op::Splice(from, to, new) => {
            let plan = |len: u64| {
                let (from, to) = (len * from / 100, len * to / 100);
                Ok(vec![Piece::Keep(0, from), Piece::New(0, new.len() as u64), Piece::Keep(to, len)])
            };
            list.edit(&mut items(&arena, new), None, plan).unwrap();
        }
        Op::Reverse => {
            let plan = |len| Ok((0..len).rev().map(|nth| Piece::Keep(nth, nth + 1)).collect());
            list.edit(&mut Items::new(), None, plan).unwrap();
        }
        Op::Clear => list.edit(&mut Items::new(), None, |_| Ok(vec![])).unwrap(),
    }
}

/// What `op` does to a `Vec`.
fn model(vec: &mut Vec<Element>, op: &Op) {
    let len = vec.len();
    match op {
        Op::Append(new) => vec.push(new.clone()),
        Op::Set(at, new) => {
            if let Some(nth) = position(*at, len) {
                vec[nth] = new.clone();
            }
        }
        Op::Insert(at, new) => {
            let nth = if *at < 0 { at + len as i64 } else { *at }.clamp(0, len as i64);
            vec.insert(nth as usize, new.clone());
        }
        Op::Pop(at) => drop(position(*at, len).map(|nth| vec.remove(nth))),
        Op::Get(_) => {}
        Op::Extend(new) => vec.extend(new.iter().cloned()),
        Op::Splice(from, to, new) => {
            let (from, to) = (len as u64 * from / 100, len as u64 * to / 100);
            vec.splice(from as usize..to as usize, new.iter().cloned());
        }
        Op::Reverse => vec.reverse(),
        Op::Clear => vec.clear(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn it_behaves_as_a_vec(ops in prop::collection::vec(any_op(), 1..120)) {
        let arena = Arena::heap(64 << 20, 16 << 20).unwrap();
        let list = List::create(&arena, 0, 0).unwrap();
        let mut vec = Vec::new();
        for op in &ops {
            let before = list.version().unwrap();
            apply(&list, op);
            let was = vec.clone();
            model(&mut vec, op);
            prop_assert_eq!(&contents(&list), &vec);
            prop_assert!(was == vec || list.version().unwrap() != before);
            for at in [-1, 0, 3] {
                let wanted = position(at, vec.len()).map(|nth| vec[nth].clone());
                prop_assert_eq!(get(&list, at).ok(), wanted);
            }
        }
        drop(list);
        prop_assert_eq!(arena.statistics().in_use, 0);
        arena.check_invariants().unwrap();
    }
}

#[test]
fn numbers_change_in_place() {
    let arena = arena();
    let list = List::create(&arena, 0, 0).unwrap();
    for n in 0..5u64 {
        append(&list, &plain(&n.to_ne_bytes()));
    }
    let before = arena.statistics();
    for n in 0..10_000u64 {
        set(&list, n as i64 % 5, &plain(&n.to_ne_bytes())).unwrap();
    }
    assert_eq!(arena.statistics(), before);
    assert_eq!(get(&list, 4), Ok(plain(&9_999u64.to_ne_bytes())));
}

#[test]
fn a_table_that_is_written_over_and_over_does_not_grow() {
    let arena = arena();
    let list = List::create(&arena, 0, 0).unwrap();
    for _ in 0..4 {
        append(&list, &plain(&[1; 50]));
    }
    for n in 0..10_000u32 {
        set(&list, i64::from(n % 4), &plain(&[n as u8; 50])).unwrap();
        append(&list, &plain(b"x"));
        pop(&list, -1).unwrap();
        insert(&list, 0, &plain(b"y"));
        pop(&list, 0).unwrap();
        append(&list, &pop(&list, 0).unwrap()); // in a circle
    }
    assert_eq!(list.len(), Ok(4));
    assert!(arena.statistics().in_use <= 16 << 10, "{:?}", arena.statistics());
}

#[test]
fn errors_leave_it_as_it_was() {
    let arena = Arena::heap(1 << 20, 4 << 20).unwrap();
    let list = List::create(&arena, 0, 0).unwrap();
    assert_eq!(get(&list, 0), Err(ContainerError::Range));
    assert_eq!(pop(&list, -1), Err(ContainerError::Range));
    assert_eq!(set(&list, 0, &plain(b"x")), Err(ContainerError::Range));
    assert_eq!(list.append(7, &[0; 1025], &mut vec![]), Err(ContainerError::TooLong));
    append(&list, &plain(b"x"));
    let version = list.version().unwrap();
    assert_eq!(list.pop(0, Some(version + 1), &mut Item::new()), Err(ContainerError::Changed));
    let twice = |_| Ok(vec![Piece::Keep(0, 2)]);
    assert_eq!(list.edit(&mut Items::new(), None, twice), Err(ContainerError::Range));
    let many: Vec<Element> = vec![plain(&[1; 900]); 2000];
    let refused = list.extend(&mut items(&arena, &many), None);
    assert!(matches!(refused, Err(ContainerError::Memory(_))), "{refused:?}");
    assert_eq!(contents(&list), [plain(b"x")]);
    arena.check_invariants().unwrap();
}

#[test]
fn a_visit_goes_as_far_as_it_wants() {
    let arena = arena();
    let list = List::create(&arena, 0, 0).unwrap();
    list.extend(&mut items(&arena, &start()), None).unwrap();
    let mut seen = Vec::new();
    let version = list.visit(|nth, tag, payload, blocks| {
        seen.push((nth, tag, payload.to_vec(), blocks));
        nth < 2
    });
    assert_eq!(version, list.version());
    let wanted = [(0, 7, vec![b'1'], false), (1, 7, vec![2; 40], false), (2, 7, vec![3], true)];
    assert_eq!(seen, wanted);
}

#[test]
fn what_was_read_is_the_readers_own() {
    let arena = arena();
    let list = List::create(&arena, 0, 0).unwrap();
    append(&list, &(vec![1], vec![vec![5; 9000]]));
    let mut item = Item::new();
    assert_eq!(list.get(0, false, &mut item), Ok(false), "copying may take long");
    assert_eq!(list.get(0, true, &mut item), Ok(true));
    item.blocks[0].as_mut_slice().fill(9);
    assert_eq!(get(&list, 0).unwrap().1[0], vec![5; 9000]);
    set(&list, 0, &plain(b"gone")).unwrap();
    assert!(item.blocks[0].as_slice().iter().all(|&byte| byte == 9));
    drop((item, list));
    assert_eq!(arena.statistics().in_use, 0);
}

fn start() -> Vec<Element> {
    vec![
        plain(b"1"),
        plain(&[2; 40]),
        (vec![3], vec![vec![3; 5000], vec![4; 10]]),
        plain(b"4"),
        (vec![5; 30], vec![vec![6; 300]]),
    ]
}

#[test]
fn death_at_each_store_of_each_operation() {
    let long = || (vec![8; 50], vec![vec![7; 70_000]]);
    let many = || (0..40u8).map(|n| plain(&[n])).chain([long()]).collect::<Vec<_>>();
    let ops = [
        Op::Append(plain(b"new")),
        Op::Append(long()),
        Op::Set(0, plain(b"new")),
        Op::Set(2, plain(b"new")),
        Op::Set(4, long()),
        Op::Insert(0, plain(b"new")),
        Op::Insert(0, long()),
        Op::Insert(2, long()),
        Op::Pop(-1),
        Op::Pop(0),
        Op::Pop(2),
        Op::Get(2),
        Op::Extend(many()),
        Op::Splice(20, 80, many()),
        Op::Reverse,
        Op::Clear,
    ];
    for op in &ops {
        let arena = arena();
        let mut wanted = start();
        model(&mut wanted, op);
        for after in 1.. {
            let list = List::create(&arena, 0, 0).unwrap();
            list.extend(&mut items(&arena, &start()), None).unwrap();
            let survived = play(&arena, after, |victim| apply(&open(victim, &list), op));
            for reaped in [false, true] {
                let now = contents(&list);
                assert!(now == wanted || (now == start() && !survived), "{op:?} {after}: {now:?}");
                if !reaped {
                    arena.reap();
                    arena.check_invariants().unwrap();
                }
            }
            append(&list, &long());
            assert_eq!(pop(&list, -1), Ok(long()), "the list works on");
            drop(list);
            arena.reap();
            assert_eq!(arena.statistics().in_use, 0, "{op:?} {after}");
            arena.check_invariants().unwrap();
            if survived {
                assert!(after > 1);
                break;
            }
        }
    }
}

#[test]
fn death_while_lists_are_made_pinned_and_ended() {
    let arena = arena();
    for after in 1.. {
        let survived = play(&arena, after, |victim| {
            let list = List::create(victim, 0, 5).unwrap();
            list.extend(&mut items(victim, &start()), None).unwrap();
            list.pin().unwrap();
            list.pin().unwrap();
            drop(list);
            assert!(victim.statistics().in_use > 0, "the pin keeps it");
            Container::release_group(victim, 6);
            assert!(victim.statistics().in_use > 0);
            Container::release_group(victim, 5);
        });
        if survived {
            assert_eq!(arena.statistics().in_use, 0);
        }
        arena.reap();
        assert_eq!(arena.statistics().in_use, 0);
        arena.check_invariants().unwrap();
        if survived {
            break;
        }
    }
}

/// The last handle goes in a process that dies meanwhile; who reaps finishes what it began.
#[test]
fn death_of_the_last_user() {
    let arena = arena();
    for after in 1.. {
        let list = List::create(&arena, 0, 0).unwrap();
        list.extend(&mut items(&arena, &start()), None).unwrap();
        let victim = arena.again().unwrap();
        let last = open(&victim, &list);
        drop(list);
        let survived =
            std::thread::scope(|scope| scope.spawn(|| run(Some(after), || drop(last)).0.is_some()).join().unwrap());
        victim.abandon();
        arena.reap();
        assert_eq!(arena.statistics().in_use, 0, "{after}");
        arena.check_invariants().unwrap();
        if survived {
            break;
        }
    }
}

/// A list outlives its maker, as long as somebody uses it; a pin does not outlive the patron.
#[test]
fn a_list_outlives_its_maker() {
    let arena = arena();
    let maker = arena.again().unwrap();
    let (used, pinned) = (List::create(&maker, 0, 1).unwrap(), List::create(&maker, 0, 1).unwrap());
    used.extend(&mut items(&maker, &start()), None).unwrap();
    let mine = open(&arena, &used);
    open(&arena, &pinned).pin().unwrap();
    let id = pinned.id();
    drop(pinned);
    let reopened = List::open(&arena, Ticket { id, lender: 0 });
    assert!(reopened.is_ok());
    drop(reopened);
    std::mem::forget(used);
    maker.abandon();
    arena.reap();
    assert!(List::open(&arena, Ticket { id, lender: 0 }).is_err());
    assert_eq!(contents(&mine), start());
    mine.pin().unwrap(); // nobody to do it: without effect
    drop(mine);
    assert_eq!(arena.statistics().in_use, 0);
}

#[test]
fn threads_and_participants_lose_nothing() {
    let arena = arena();
    let list = List::create(&arena, 0, 0).unwrap();
    let (threads, each) = (4u64, 3000u64);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let list = &list;
            let arena = &arena;
            scope.spawn(move || {
                let other = arena.again().unwrap();
                let list = open(&other, list);
                for n in 0..each {
                    append(&list, &plain(&(thread * each + n).to_ne_bytes()));
                    if n % 100 == 0 {
                        list.read(|len| (0, 1, len), &mut Items::new()).unwrap();
                    }
                }
            });
        }
    });
    let number = |element: Element| u64::from_ne_bytes(element.0.try_into().unwrap());
    let mut got: Vec<u64> = contents(&list).into_iter().map(number).collect();
    got.sort_unstable();
    assert_eq!(got, (0..threads * each).collect::<Vec<_>>());
}
