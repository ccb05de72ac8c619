//! Whatever the bytes, data files give rows or words: no panic, no endless work.

#![allow(clippy::unwrap_used)]

use deptune_sweep::task::{BuiltIn, Format, Recipe, SourceFile, Split, TaskDef, TaskSpec, load};
use proptest::prelude::*;

const FORMATS: [Format; 5] =
    [Format::Auto, Format::Jsonl, Format::Tsv, Format::Csv, Format::Parquet];

/// Files that some task reads, to be damaged.
const FILES: &[&[u8]] = &[
    br#"{"question":"q","passage":"p","label":true}
{"question":"q2","passage":"p2","label":0}
{"question":"q3","passage":"p3","label":"false"}
"#,
    br#"{"passage":{"text":"A b.\n@highlight\nC","entities":[{"start":0,"end":0}]},"qas":[{"query":"@placeholder","answers":[{"text":"A"}]}]}
"#,
    br#"{"context":"c","qas":[{"question":"q","answers":["a","b"]}]}
"#,
    br#"{"passage":{"text":"p","questions":[{"question":"q","answers":[{"text":"a","label":1}]}]}}
"#,
    br#"{"text":"one two three","target":{"span1_text":"one","span1_index":0,"span2_text":"two","span2_index":1},"label":true}
"#,
    b"sentence1\tsentence2\tscore\nA\tB\t3.5\nC\tD\t0.25\nE\tF\t5\n",
    b"sentence,label\n\"a, \"\"b\"\"\",1\nc,0\nd,1\n",
    include_bytes!("data/squad.parquet"),
    include_bytes!("data/squad_v2_zstd.parquet"),
];

fn def(task: &BuiltIn, recipe: Recipe, format: Format, k_shot: Option<u32>) -> TaskDef {
    let known = !matches!(
        task.name,
        "nq" | "hotpotqa" | "searchqa" | "newsqa" | "squad" | "triviaqa" | "drop" | "record"
    );
    let spec = TaskSpec {
        name: task.name.to_owned(),
        format,
        train: vec!["a".to_owned()],
        k_shot: k_shot.filter(|_| known),
        ..TaskSpec::default()
    };
    spec.resolve(recipe).unwrap()
}

fn read(def: &TaskDef, bytes: &[u8], seed: u64) {
    let file = SourceFile { name: "a", bytes };
    match load(def, &[(Split::Train, file)]).and_then(|data| data.sample(def, seed)) {
        Ok(data) => {
            let golds = &data.train;
            let targets: Vec<&str> = golds.iter().map(|row| row.target.as_str()).collect();
            def.evaluate(&targets, golds).unwrap();
            assert_eq!(def.constant_answer(golds).len(), def.metrics().len());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

proptest! {
    #[test]
    fn any_bytes(
        task in prop::sample::select(BuiltIn::all().iter().collect::<Vec<_>>()),
        format in prop::sample::select(FORMATS.to_vec()),
        reference in any::<bool>(),
        k_shot in prop::option::of(5u32..9),
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let recipe = if reference { Recipe::Reference } else { Recipe::Default };
        read(&def(task, recipe, format, k_shot), &bytes, 7);
    }

    #[test]
    fn damaged_files(
        task in prop::sample::select(BuiltIn::all().iter().collect::<Vec<_>>()),
        file in prop::sample::select(FILES),
        reference in any::<bool>(),
        seed in any::<u64>(),
        copies in 1usize..20,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let recipe = if reference { Recipe::Reference } else { Recipe::Default };
        let copies = if file.starts_with(b"PAR1") { 1 } else { copies };
        let mut bytes = file.repeat(copies);
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        read(&def(task, recipe, Format::Auto, None), &bytes, seed);
    }
}
