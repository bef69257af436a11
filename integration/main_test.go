package integration

import (
	"flag"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// workerEnv makes the test binary a worker.
const workerEnv = "TOKENLATCH_INTEGRATION_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(workerEnv) != "" {
		os.Exit(workerMain())
	}
	waitTogether()
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		removeCommand()
		os.Exit(code)
	}))
}

// waitTogether lets more tests run at a time than there are cores: they mostly wait
// for leases and deadlines to run out. -parallel has the last word.
func waitTogether() {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", "8")
	}
}
