//! The handlers stay thin: what is stored, and how, is none of their business.

#[test]
fn handlers_import_neither_the_store_nor_sql() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/grpc");
    let mut files = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for word in ["crate::store", "sqlx", "scheduler::Scheduler"] {
            assert!(!text.contains(word), "{} names {word}", path.display());
        }
        files += 1;
    }
    assert!(files > 5);
}
