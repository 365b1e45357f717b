use appraisal::Policy;
#[test]
fn p() {
    println!("{}", serde_json::to_string_pretty(&Policy::production()).unwrap());
}
