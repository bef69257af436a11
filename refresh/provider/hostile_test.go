package provider

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

func TestAHostileAnswerTakesLittleMemory(t *testing.T) {
	var wide, list, deep, words, errs strings.Builder
	wide.WriteString("{")
	for i := 0; wide.Len() < 300<<10; i++ {
		fmt.Fprintf(&wide, `"a%d":{"access_token":"x"},`, i)
	}
	wide.WriteString(`"z":1}`)
	list.WriteString(`{"data":[`)
	for list.Len() < 1<<20-100 {
		list.WriteString(`{"access_token":"x"},`)
	}
	list.WriteString(`1]}`)
	deep.WriteString(strings.Repeat(`{"error":`, 9000) + "1" + strings.Repeat("}", 9000))
	words.WriteString(`{"error":[`)
	for words.Len() < 1<<20-100 {
		words.WriteString(`"invalid_grants",`)
	}
	words.WriteString(`1]}`)
	errs.WriteString(`{"errors":[`)
	for errs.Len() < 1<<18 {
		errs.WriteString(`{"error":{"error":{"a":1,"b":2}}},`)
	}
	errs.WriteString(`1]}`)
	var flat strings.Builder
	flat.WriteString("{")
	for flat.Len() < 1<<20-100 {
		flat.WriteString(`"a":[],`)
	}
	flat.WriteString(`"z":1}`)
	str := inString(`{"a":` + inString(`{"a":`+inString(strings.Repeat(`{"access_token":`, 10000))+`}`) + `}`)
	for name, body := range map[string]string{"wide": wide.String(), "list": list.String(), "deep": deep.String(), "words": words.String(), "errs": errs.String(), "flat": flat.String(), "str": str,
		"form": strings.Repeat("a=b&", 1<<18), "xml": "<r>" + strings.Repeat("<a><b/></a>", 1<<16) + "</r>", "amp": strings.Repeat("error&", 1<<17), "bra": strings.Repeat("{", 1<<20), "sq": `{"a":` + strings.Repeat("[", 1<<20)} {
		for _, status := range []int{200, 400} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _ = Classify(Profile{CodeKeys: []string{"status", "x"}}, Answer{Status: status, Body: []byte(body)}, canaryRefresh, canaryAccess)
			runtime.ReadMemStats(&after)
			mb := (after.TotalAlloc - before.TotalAlloc) >> 20
			if mb > 400 {
				t.Errorf("%s %d: %d MiB", name, status, mb)
			}
		}
	}
}
