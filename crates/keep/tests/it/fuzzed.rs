//! Modules that call the Keep with nonsense: each call is answered, and nothing else ends than the module.

use keep::command::{Ended, Which};
use proptest::prelude::*;

use crate::{
    calls::{self, CALLS},
    run::Run,
    wasi03_files::command,
};

/// Numbers as attackers like them.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => 0_u64..12,
        4 => prop::sample::select(vec![
            0xffff, 0x1_0000, 0xfff8, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0xffff_ffff, u64::MAX, 1 << 63,
        ]),
        2 => 0_u64..0x1_0000,
        1 => any::<u64>(),
    ]
}

/// A call (its place in [`CALLS`]) with more arguments than any has.
fn call() -> impl Strategy<Value = (usize, [u64; 9])> {
    (0..CALLS.len(), prop::array::uniform9(number()))
}

fn text((place, arguments): &(usize, [u64; 9])) -> String {
    let (name, params) = CALLS[*place];
    let arguments: String = params
        .chars()
        .zip(arguments)
        .map(|(kind, argument)| match kind {
            'l' => format!(" (i64.const {})", *argument as i64),
            _ => format!(" (i32.const {})", *argument as u32 as i32),
        })
        .collect();
    match name {
        // Its end would be the end of the test.
        "proc_exit" => String::new(),
        _ => format!("(drop (call ${name}{arguments}))\n"),
    }
}

const CONFIG: &str = r#"
[[files]]
kind = "stdin"
[[files]]
kind = "stdout"
[[files]]
kind = "null"
[[tmpfs]]
path = "/tmp"
size = "64KiB"
[limits]
wall = "300ms"
memory = "1MiB"
output = "1MiB"
"#;

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// S-54: pointers, lengths, descriptors, flags and orders that no compiler makes.
    #[test]
    fn s54_no_sequence_of_calls_breaks_the_keep(
        memory in prop::collection::vec(number(), 0..64),
        calls in prop::collection::vec(call(), 1..40),
    ) {
        let stores: String = memory
            .iter()
            .enumerate()
            .map(|(place, word)| {
                format!("(i32.store (i32.const {}) (i32.const {}))\n", place * 4, *word as u32 as i32)
            })
            .collect();
        let calls: String = calls.iter().map(text).collect();
        let module = calls::module(&format!("(func (export \"_start\") {stores}{calls})"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ended = runtime.block_on(Run::of(&module).config(CONFIG).input(b"some input").ended());
        let expected = matches!(ended, Ended::Exit(0) | Ended::Limit(Which::Wall | Which::Output));
        prop_assert!(expected, "{ended:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// S-54: the same for components, by `tests/command03`: files, sockets, names, and streams that are dropped half-way.
    #[test]
    fn s54_no_sequence_of_calls_of_a_component_breaks_the_keep(seed in any::<u32>()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let config = "[[tmpfs]]\npath = \"/tmp\"\nsize = \"64KiB\"\n[limits]\nmemory = \"16MiB\"\n";
        let run = command(&format!("fuzz {seed} 200")).more(config);
        let run = runtime.block_on(async {
            let net = crate::preview1::net("", &crate::pki::Root::new());
            run.given(keep::world::Given { net: Some(net), ..Default::default() }).finish().await
        });
        prop_assert_eq!((&run.ended, run.stdout.as_str()), (&Ended::Exit(0), "alive\n"), "{:?}", run);
    }
}
