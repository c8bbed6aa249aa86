//! Tells the program which async-openai it was built with, which the crate itself doesn't say.

fn main() {
    println!("cargo::rerun-if-changed=Cargo.lock");
    let lock = std::fs::read_to_string("Cargo.lock").expect("cargo writes it before it builds");
    let version = lock
        .split("[[package]]")
        .find(|package| package.contains("name = \"async-openai\"\n"))
        .and_then(|package| package.split("version = \"").nth(1))
        .and_then(|rest| rest.split('"').next())
        .expect("a dependency");
    println!("cargo::rustc-env=ASYNC_OPENAI_VERSION={version}");
}
