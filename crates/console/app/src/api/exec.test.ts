import { describe, expect, it } from "vitest";
import { ending, execPath } from "./exec";

describe("exec", () => {
  it("asks as kubectl does", () => {
    expect(execPath({ namespace: "demo", pod: "web-1", container: "c", command: ["sh", "-c", "a b"] })).toBe(
      "/api/v1/namespaces/demo/pods/web-1/exec?container=c&stdin=true&stdout=true&tty=true&command=sh&command=-c&command=a+b",
    );
  });

  it.each([
    [{ status: "Success" }, true, "The process ended."],
    [{ status: "Failure", details: { causes: [{ reason: "ExitCode", message: "3" }] } }, true, "The process ended with exit code 3."],
    [{ status: "Failure", message: "no such file" }, false, "no such file"],
    [{ status: "Failure" }, false, "The process could not be started."],
  ])("reads how it ended: %j", (status, good, text) => {
    expect(ending(status)).toEqual({ good, text });
  });
});
