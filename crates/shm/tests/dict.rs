//! What a dict promises: it behaves as a map that keeps the order of its keys, and a death at any
//! store leaves it as it was before or after the operation, with all memory accounted for.

use breakeven_shm::{Arena, Container, ContainerError, Dict, Item, Items, Key, List, Lookup, Ticket, Which};
use proptest::prelude::*;
use support::*;

#[path = "support/containers.rs"]
mod support;

fn open(arena: &Arena, dict: &Dict) -> Dict {
    Dict::open(arena, Ticket { id: dict.id(), lender: 0 }).unwrap()
}

fn pair_items(arena: &Arena, pairs: &[(Part, Part)]) -> Items {
    items(arena, pairs.iter().flat_map(|(key, value)| [key, value]))
}

/// A bad hash: many keys have the same, and most of those follow each other.
fn hash(key: &Part) -> u64 {
    key.0.iter().fold(0, |hash, byte| (hash + u64::from(*byte)) % 23)
}

/// Runs `operation` with `key`, which its payload tells from others.
fn with_key<T>(key: &Part, operation: impl FnOnce(&Key<'_>) -> T) -> T {
    let same = |tag, payload: &[u8], _| Some(tag == TAG && payload == key.0);
    operation(&Key { hash: hash(key), same: &same, decided: None, note: None })
}

fn found<T>(lookup: Lookup<T>) -> Option<T> {
    match lookup {
        Lookup::Found(value) => Some(value),
        Lookup::Missing => None,
        Lookup::Unsure(unsure) => panic!("bytes tell: {unsure:?}"),
    }
}

fn get(dict: &Dict, key: &Part) -> Option<Part> {
    let mut item = Item::new();
    let there = found(with_key(key, |key| dict.get(key, true, &mut item)).unwrap());
    assert_eq!(found(with_key(key, |key| dict.contains(key)).unwrap()).is_some(), there.is_some());
    there.map(|read| {
        assert!(read);
        part(&mut item)
    })
}

fn set(dict: &Dict, key: &Part, value: &Part, replace: bool) -> bool {
    let arena = dict.arena();
    let (mut names, mut values) = (blocks(&arena, key), blocks(&arena, value));
    let stored = with_key(key, |how| dict.set(how, (TAG, &key.0, &mut names), (TAG, &value.0, &mut values), replace));
    let was = found(stored.unwrap()).is_some();
    assert_eq!(names.is_empty(), !was || key.1.is_empty(), "a key that was there keeps its bytes");
    assert_eq!(values.is_empty(), !was || replace || value.1.is_empty());
    was
}

fn pop(dict: &Dict, key: &Part) -> Option<Part> {
    let mut item = Item::new();
    found(with_key(key, |key| dict.pop(key, &mut item)).unwrap()).map(|()| part(&mut item))
}

fn pop_last(dict: &Dict) -> Option<(Part, Part)> {
    let (mut name, mut item) = (Item::new(), Item::new());
    dict.pop_last(&mut name, &mut item).unwrap().then(|| (part(&mut name), part(&mut item)))
}

fn update(dict: &Dict, pairs: &[(Part, Part)]) {
    let sames: Vec<_> = pairs.iter().map(|(key, _)| |_, payload: &[u8], _| Some(payload == key.0)).collect();
    let key = |nth: usize| Key { hash: hash(&pairs[nth].0), same: &sames[nth], decided: None, note: None };
    let keys: Vec<Key<'_>> = (0..pairs.len()).map(key).collect();
    let mut items = pair_items(&dict.arena(), pairs);
    assert!(found(dict.update(&keys, &mut items).unwrap()).is_some());
    assert!(items.is_empty());
}

fn contents(dict: &Dict) -> Vec<(Part, Part)> {
    let mut items = Items::new();
    let mut parts = |which| {
        dict.read(which, &mut items).unwrap();
        parts(&mut items)
    };
    let both = parts(Which::Both);
    let pairs: Vec<(Part, Part)> = both.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
    assert_eq!(parts(Which::Keys), pairs.iter().map(|pair| pair.0.clone()).collect::<Vec<_>>());
    assert_eq!(parts(Which::Values), pairs.iter().map(|pair| pair.1.clone()).collect::<Vec<_>>());
    assert_eq!(dict.len().unwrap(), pairs.len() as u64);
    pairs
}

#[derive(Debug, Clone)]
enum Op {
    Set(Part, Part),
    SetDefault(Part, Part),
    Get(Part),
    Pop(Part),
    PopLast,
    Update(Vec<(Part, Part)>),
    Replace(Vec<(Part, Part)>),
}

/// Few keys, so that they meet again.
fn any_key() -> impl Strategy<Value = Part> {
    (0u8..30).prop_map(|n| match n {
        0..24 => plain(&[n]),
        24..27 => plain(&vec![n; usize::from(n)]),
        _ => (vec![n; 3], vec![vec![n; 400]]),
    })
}

fn any_pairs(most: usize) -> impl Strategy<Value = Vec<(Part, Part)>> {
    prop::collection::vec((any_key(), any_part()), 0..most).prop_map(|pairs| {
        let mut once: Vec<(Part, Part)> = Vec::new();
        for pair in pairs {
            if once.iter().all(|other| other.0 != pair.0) {
                once.push(pair);
            }
        }
        once
    })
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (any_key(), any_part()).prop_map(|(key, value)| Op::Set(key, value)),
        2 => (any_key(), any_part()).prop_map(|(key, value)| Op::SetDefault(key, value)),
        2 => any_key().prop_map(Op::Get),
        4 => any_key().prop_map(Op::Pop),
        2 => Just(Op::PopLast),
        2 => any_pairs(12).prop_map(Op::Update),
        1 => any_pairs(6).prop_map(Op::Replace),
    ]
}

fn apply(dict: &Dict, op: &Op) {
    match op {
        Op::Set(key, value) => assert_eq!(get(dict, key).is_some(), set(dict, key, value, true)),
        Op::SetDefault(key, value) => assert_eq!(get(dict, key).is_some(), set(dict, key, value, false)),
        Op::Get(key) => drop(get(dict, key)),
        Op::Pop(key) => drop(pop(dict, key)),
        Op::PopLast => drop(pop_last(dict)),
        Op::Update(pairs) => update(dict, pairs),
        Op::Replace(pairs) => {
            let hashes: Vec<u64> = pairs.iter().map(|(key, _)| hash(key)).collect();
            dict.replace(&hashes, &mut pair_items(&dict.arena(), pairs), None, None).unwrap();
        }
    }
}

/// What `op` does to a plain map.
fn model(map: &mut Vec<(Part, Part)>, op: &Op) {
    let put = |map: &mut Vec<(Part, Part)>, key: &Part, value: &Part, replace| match map
        .iter_mut()
        .find(|pair| pair.0 == *key)
    {
        Some(pair) if replace => pair.1 = value.clone(),
        Some(_) => {}
        None => map.push((key.clone(), value.clone())),
    };
    match op {
        Op::Set(key, value) => put(map, key, value, true),
        Op::SetDefault(key, value) => put(map, key, value, false),
        Op::Get(_) => {}
        Op::Pop(key) => map.retain(|pair| pair.0 != *key),
        Op::PopLast => drop(map.pop()),
        Op::Update(pairs) => pairs.iter().for_each(|(key, value)| put(map, key, value, true)),
        Op::Replace(pairs) => *map = pairs.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn it_behaves_as_a_map(ops in prop::collection::vec(any_op(), 1..150)) {
        let arena = Arena::heap(64 << 20, 16 << 20).unwrap();
        let dict = Dict::create(&arena, 0, 0).unwrap();
        let mut map = Vec::new();
        for op in &ops {
            let before = dict.version().unwrap();
            apply(&dict, op);
            let was = map.clone();
            model(&mut map, op);
            prop_assert_eq!(&contents(&dict), &map);
            prop_assert!(was == map || dict.version().unwrap() != before);
            for key in [plain(&[0]), plain(&[23]), (vec![27; 3], vec![vec![27; 400]])] {
                let wanted = map.iter().find(|pair| pair.0 == key).map(|pair| pair.1.clone());
                prop_assert_eq!(get(&dict, &key), wanted);
            }
        }
        drop(dict);
        prop_assert_eq!(arena.statistics().in_use, 0);
        arena.check_invariants().unwrap();
    }
}

#[test]
fn numbers_change_in_place() {
    let arena = arena();
    let dict = Dict::create(&arena, 0, 0).unwrap();
    for n in 0..4u64 {
        set(&dict, &plain(&[n as u8]), &plain(&n.to_ne_bytes()), true);
    }
    let before = arena.statistics();
    for n in 0..10_000u64 {
        assert!(set(&dict, &plain(&[n as u8 % 4]), &plain(&n.to_ne_bytes()), true));
    }
    assert_eq!(arena.statistics(), before);
    assert_eq!(get(&dict, &plain(&[3])), Some(plain(&9_999u64.to_ne_bytes())));
}

#[test]
fn keys_that_come_and_go_do_not_make_it_grow() {
    let arena = arena();
    let dict = Dict::create(&arena, 0, 0).unwrap();
    for n in 0..20_000u32 {
        let key = plain(&n.to_ne_bytes());
        set(&dict, &key, &plain(&[n as u8; 50]), true);
        set(&dict, &plain(b"stays"), &plain(&[n as u8; 40]), true);
        match n % 3 {
            0 => assert!(pop(&dict, &key).is_some()),
            1 => assert!(pop_last(&dict).is_some()),
            _ => assert!(pop(&dict, &plain(&n.to_ne_bytes())).is_some()),
        }
    }
    assert!(dict.len().unwrap() <= 2);
    assert!(arena.statistics().in_use <= 16 << 10, "{:?}", arena.statistics());
}

/// As with `while d: d.popitem()`: what it costs does not grow with what is gone already.
#[test]
fn many_keys_are_taken_out_from_the_end() {
    let arena = arena();
    let dict = Dict::create(&arena, 0, 0).unwrap();
    let pairs: Vec<(Part, Part)> = (0..30_000u32).map(|n| (plain(&n.to_ne_bytes()), plain(b"x"))).collect();
    let spread = |key: &Part| u64::from(u32::from_ne_bytes(key.0[..].try_into().unwrap())).wrapping_mul(0x9e37_79b9);
    let hashes: Vec<u64> = pairs.iter().map(|(key, _)| spread(key)).collect();
    dict.replace(&hashes, &mut pair_items(&arena, &pairs), None, None).unwrap();
    for (key, value) in pairs.into_iter().rev() {
        assert_eq!(pop_last(&dict), Some((key, value)));
    }
    assert_eq!(pop_last(&dict), None);
}

/// Keys that only their user can tell apart: the operation says which ones, and takes the answer.
#[test]
fn keys_that_bytes_do_not_tell_apart() {
    let arena = arena();
    let dict = Dict::create(&arena, 0, 0).unwrap();
    let never = |_, _: &[u8], _| None;
    let key = |decided| Key { hash: 5, same: &never, decided, note: None };
    let store = |decided, name: &[u8], value: &[u8]| {
        dict.set(&key(decided), (TAG, name, &mut vec![]), (TAG, value, &mut vec![]), true).unwrap()
    };
    assert!(matches!(store(None, b"one", b"1"), Lookup::Missing), "nothing to be unsure about");
    let Lookup::Unsure(unsure) = store(None, b"two", b"2") else { panic!() };
    assert_eq!((unsure.entries.len(), unsure.keys.len()), (1, 1));
    assert_eq!(dict.len(), Ok(1));
    assert!(matches!(store(Some((unsure.version, None)), b"two", b"2"), Lookup::Missing));
    let stale = dict.contains(&key(Some((unsure.version, None))));
    assert!(matches!(stale, Err(ContainerError::Changed)), "{stale:?}");
    let Lookup::Unsure(unsure) = dict.contains(&key(None)).unwrap() else { panic!() };
    assert_eq!(unsure.entries.len(), 2);
    assert!(matches!(store(Some((unsure.version, Some(unsure.entries[1]))), b"two", b"22"), Lookup::Found(())));
    assert_eq!(contents(&dict), [(plain(b"one"), plain(b"1")), (plain(b"two"), plain(b"22"))]);
    let version = dict.version().unwrap();
    let unknown = dict.contains(&key(Some((version, Some(99)))));
    assert!(matches!(unknown, Err(ContainerError::Range)), "{unknown:?}");
}

#[test]
fn errors_leave_it_as_it_was() {
    let arena = Arena::heap(1 << 20, 4 << 20).unwrap();
    let dict = Dict::create(&arena, 0, 0).unwrap();
    set(&dict, &plain(b"k"), &plain(b"v"), true);
    let long = with_key(&plain(b"k"), |key| {
        dict.set(key, (TAG, b"k", &mut vec![]), (TAG, &[0; 1025], &mut vec![]), true).unwrap_err()
    });
    assert_eq!(long, ContainerError::TooLong);
    let version = dict.version().unwrap();
    let refused = dict.replace(&[], &mut Items::new(), Some(version + 1), None);
    assert_eq!(refused, Err(ContainerError::Changed));
    let many: Vec<(Part, Part)> = (0..2000u32).map(|n| (plain(&n.to_ne_bytes()), plain(&[1; 900]))).collect();
    let hashes: Vec<u64> = (0..2000).collect();
    let refused = dict.replace(&hashes, &mut pair_items(&arena, &many), None, None);
    assert!(matches!(refused, Err(ContainerError::Memory(_))), "{refused:?}");
    assert_eq!(contents(&dict), [(plain(b"k"), plain(b"v"))]);
    arena.check_invariants().unwrap();
}

#[test]
fn a_list_is_no_dict() {
    let arena = arena();
    let (list, dict) = (List::create(&arena, 0, 0).unwrap(), Dict::create(&arena, 0, 0).unwrap());
    assert!(Dict::open(&arena, Ticket { id: list.id(), lender: 0 }).is_err());
    assert!(List::open(&arena, Ticket { id: dict.id(), lender: 0 }).is_err());
}

#[test]
fn a_note_is_changed_by_one_of_several() {
    let arena = arena();
    let dict = Dict::create(&arena, 0, 0).unwrap();
    assert_eq!((dict.note(), dict.change_note(0, 7), dict.change_note(0, 8)), (0, Ok(()), Err(7)));
    assert_eq!(open(&arena, &dict).note(), 7);
    let same = |_, _: &[u8], _| Some(true);
    let key = |note| Key { hash: 1, same: &same, decided: None, note: Some(note) };
    assert!(matches!(dict.contains(&key(7)), Ok(Lookup::Missing)));
    assert!(matches!(dict.contains(&key(0)), Err(ContainerError::Changed)));
    assert_eq!(dict.replace(&[], &mut Items::new(), None, Some(0)), Err(ContainerError::Changed));
}

fn long_key() -> Part {
    (vec![9; 40], vec![vec![9; 600]])
}

fn start() -> Vec<(Part, Part)> {
    vec![
        (plain(b"a"), plain(b"1")),
        (plain(&[2; 30]), plain(&[2; 40])),
        (plain(b"gone"), (vec![1], vec![vec![1; 90]])),
        (long_key(), (vec![3], vec![vec![3; 5000], vec![4; 10]])),
        (plain(b"d"), (vec![5; 30], vec![vec![6; 300]])),
    ]
}

/// With a dead entry in it.
fn fill(dict: &Dict) -> Vec<(Part, Part)> {
    for (key, value) in &start() {
        set(dict, key, value, true);
    }
    pop(dict, &plain(b"gone")).unwrap();
    contents(dict)
}

#[test]
fn death_at_each_store_of_each_operation() {
    let long = || (vec![8; 50], vec![vec![7; 70_000]]);
    let new = || (0..20u8).map(|n| (plain(&[n, n]), plain(&[n])));
    let ops = [
        Op::Set(plain(b"a"), plain(b"new")),
        Op::Set(plain(b"a"), long()),
        Op::Set(long_key(), long()),
        Op::Set(plain(b"new"), plain(b"new")),
        Op::Set((vec![1, 1], vec![vec![1; 800]]), long()),
        Op::SetDefault(long_key(), long()),
        Op::Get(long_key()),
        Op::Pop(plain(b"a")),
        Op::Pop(long_key()),
        Op::PopLast,
        Op::Update(new().collect()),
        Op::Update(new().chain([(long_key(), long()), (plain(b"a"), plain(b"b"))]).collect()),
        Op::Replace(vec![]),
        Op::Replace(new().chain([(long_key(), long())]).collect()),
    ];
    for op in &ops {
        let arena = arena();
        for after in 1.. {
            let dict = Dict::create(&arena, 0, 0).unwrap();
            let before = fill(&dict);
            let mut wanted = before.clone();
            model(&mut wanted, op);
            let survived = play(&arena, after, |victim| apply(&open(victim, &dict), op));
            for reaped in [false, true] {
                let now = contents(&dict);
                assert!(now == wanted || (now == before && !survived), "{op:?} {after}: {now:?}");
                for (key, value) in &now {
                    assert_eq!(get(&dict, key).as_ref(), Some(value), "{op:?} {after}");
                }
                assert_eq!(get(&dict, &plain(b"gone")), None);
                if !reaped {
                    arena.reap();
                    arena.check_invariants().unwrap();
                }
            }
            set(&dict, &plain(b"gone"), &long(), true);
            assert_eq!(pop_last(&dict), Some((plain(b"gone"), long())), "the dict works on");
            drop(dict);
            arena.reap();
            assert_eq!(arena.statistics().in_use, 0, "{op:?} {after}");
            arena.check_invariants().unwrap();
            if survived {
                assert!(after > 1 || matches!(op, Op::SetDefault(..) | Op::Get(_)));
                break;
            }
        }
    }
}

/// Whoever repairs what a dead process left may die doing so.
#[test]
fn death_while_a_death_is_repaired() {
    let arena = arena();
    for first in 1.. {
        let mut survived_first = false;
        for second in 1.. {
            let dict = Dict::create(&arena, 0, 0).unwrap();
            let before = fill(&dict);
            let op = Op::Set(plain(b"new"), plain(b"new"));
            survived_first = play(&arena, first, |victim| apply(&open(victim, &dict), &op));
            let survived = play(&arena, second, |victim| drop(get(&open(victim, &dict), &plain(b"a"))));
            let now = contents(&dict);
            let mut wanted = before.clone();
            model(&mut wanted, &op);
            assert!(now == before || now == wanted, "{first} {second}: {now:?}");
            assert!(now.iter().all(|(key, value)| get(&dict, key).as_ref() == Some(value)));
            drop(dict);
            arena.reap();
            assert_eq!(arena.statistics().in_use, 0);
            if survived {
                break;
            }
        }
        if survived_first {
            break;
        }
    }
    arena.check_invariants().unwrap();
}

#[test]
fn death_while_dicts_are_made_pinned_and_ended() {
    let arena = arena();
    for after in 1.. {
        let survived = play(&arena, after, |victim| {
            let dict = Dict::create(victim, 0, 5).unwrap();
            fill(&dict);
            dict.pin().unwrap();
            drop(dict);
            assert!(victim.statistics().in_use > 0, "the pin keeps it");
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

#[test]
fn threads_and_participants_lose_nothing() {
    let arena = arena();
    let dict = Dict::create(&arena, 0, 0).unwrap();
    let (threads, each) = (4u32, 2000u32);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (dict, arena) = (&dict, &arena);
            scope.spawn(move || {
                let other = arena.again().unwrap();
                let dict = open(&other, dict);
                let spread = |n: u32| u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                for n in (thread * each)..(thread + 1) * each {
                    let name = n.to_ne_bytes();
                    let same = |_, payload: &[u8], _| Some(payload == name);
                    let key = Key { hash: spread(n), same: &same, decided: None, note: None };
                    dict.set(&key, (TAG, &name, &mut vec![]), (TAG, &name, &mut vec![]), true).unwrap();
                    if n % 3 == 0 {
                        assert!(matches!(dict.pop(&key, &mut Item::new()), Ok(Lookup::Found(()))));
                    }
                }
            });
        }
    });
    let number = |part: Part| u32::from_ne_bytes(part.0.try_into().unwrap());
    let mut got: Vec<u32> = contents(&dict).into_iter().map(|pair| number(pair.0)).collect();
    got.sort_unstable();
    assert_eq!(got, (0..threads * each).filter(|n| n % 3 != 0).collect::<Vec<_>>());
}
