//! Compiles the protocol without `protoc`.

fn main() {
    println!("cargo::rerun-if-changed=proto");
    let compiled =
        protox::compile(["guest.proto", "health.proto"], ["proto"]).map_err(|error| error.to_string());
    let result = compiled.and_then(|descriptors| {
        tonic_prost_build::configure()
            .compile_fds(descriptors)
            .map_err(|error| error.to_string())
    });
    if let Err(error) = result {
        println!("cargo::error=proto: {error}");
    }
}
