package provider

import (
	"strings"
	"testing"
)

// Each of these was told of a dead grant, in a place of its own.
func TestADeadGrantIsFoundWhereverTheAnswerNamesIt(t *testing.T) {
	for body, want := range map[string]string{
		// Fitbit: a list, which quotes the token.
		`{"errors":[{"errorType":"invalid_grant","message":"Refresh token invalid: ` + canaryRefresh + `. Visit https://dev.example/"}],"success":false}`: "invalid_grant",
		// Google and kin: a number beside the reason.
		`{"error":{"errors":[{"reason":"invalid_grant"}],"code":400,"message":"Token has been revoked."}}`: "invalid_grant",
		`{"error":{"code":400,"errors":[{"domain":"global","reason":"invalid_grant"}]}}`:                   "invalid_grant",
		`{"error":{"code":400,"reason":"invalid_grant"}}`:                                                  "invalid_grant",
		`{"error":{"status":400,"type":"invalid_grant","message":"x"}}`:                                    "invalid_grant",
		`{"error":{"message":"invalid_grant","code":1}}`:                                                   "invalid_grant",
		`{"error":[{"code":"invalid_grant"}]}`:                                                             "invalid_grant",
		`{"error":["invalid_grant"]}`:                                                                      "invalid_grant",
		`{"errors":[{"status":400},{"code":"invalid_grant"}]}`:                                             "invalid_grant",
		`{"errors":[{"reason":"INVALID_GRANT"}]}`:                                                          "INVALID_GRANT",
		`{"errors":["invalid_grant"]}`:                                                                     "invalid_grant",
		`{"errors":{"errorCode":"invalid_grant"}}`:                                                         "invalid_grant",
		`{"Errors":[{"Error_Type":"invalid_grant"}]}`:                                                      "invalid_grant",
		`{"errorCode":"invalid_grant"}`:                                                                    "invalid_grant",
		`{"error_code":"invalid_grant","msg":"x"}`:                                                         "invalid_grant",
		`{"code":"invalid_grant","message":"x"}`:                                                           "invalid_grant",
		`{"code":400,"message":"invalid_grant"}`:                                                           "invalid_grant",
		`{"error":"Bad Request","error_description":"invalid_grant"}`:                                      "invalid_grant",
		`{"error":"invalid_request","reason":"invalid_grant"}`:                                             "invalid_grant",
		`{"status":"error","data":{"error":"invalid_grant"}}`:                                              "invalid_grant",
		`{"fault":{"faultstring":"x","detail":{"errorcode":"invalid_grant"}}}`:                             "invalid_grant",
		`{"meta":{"code":400,"error_type":"invalid_grant","error_message":"x"}}`:                           "invalid_grant",
		`invalid_grant`: "invalid_grant",
		`<OAuth><error>invalid_grant</error></OAuth>`:                       "invalid_grant",
		`<r><errors><error><code>invalid_grant</code></error></errors></r>`: "invalid_grant",
	} {
		_, err := Classify(Profile{}, Answer{Status: 400, Body: []byte(body)}, canaryRefresh)
		if e := asError(t, err); e.Class != Reauthorize || e.Code != want {
			t.Errorf("%s: got %v", body, e)
		}
	}
}

func TestRulesReachCodesAndMessagesBelowTheTop(t *testing.T) {
	p := Profile{
		CodeKeys: []string{"status"},
		Codes:    map[string]Class{"token_gone": Reauthorize, "40105": Reauthorize, "190": Reauthorize},
		Phrases:  []Phrase{{Contains: "Has Been Revoked", Class: Reauthorize}, {Code: "invalid_request", Contains: "inactive", Class: Reauthorize}},
	}
	for body, want := range map[string]string{
		`{"errors":[{"code":"token_gone"}]}`:                                              "token_gone",
		`{"error":{"errors":[{"reason":"token_gone"}],"code":400}}`:                       "token_gone",
		`{"error_code":"token_gone"}`:                                                     "token_gone",
		`{"status":{"code":40105}}`:                                                       "40105",
		`{"error":{"type":"OAuthException","code":190}}`:                                  "190",
		`{"error":{"message":"The token has been revoked.","code":7}}`:                    "7",
		`{"error":{"errors":[{"message":"It has been revoked"}]}}`:                        "",
		`{"errors":[{"message":"has been revoked: ` + canaryRefresh + `"}]}`:              "",
		`{"msg":"has been revoked"}`:                                                      "",
		`{"errmsg":"has been revoked"}`:                                                   "",
		`{"errorMessage":"has been revoked"}`:                                             "",
		`{"error":"this token has been revoked!"}`:                                        "",
		`{"detail":[{"msg":"has been revoked"}]}`:                                         "",
		`{"data":{"message":"has been revoked"}}`:                                         "",
		`Your token has been revoked.`:                                                    "",
		`{"error":{"code":"invalid_request","message":"an inactive token"}}`:              "invalid_request",
		`{"errors":[{"errorType":"invalid_request","message":"Token inactive, sorry."}]}`: "invalid_request",
	} {
		_, err := Classify(p, Answer{Status: 400, Body: []byte(body)}, canaryRefresh)
		if e := asError(t, err); e.Class != Reauthorize || e.Code != want {
			t.Errorf("%s: got %v, want code %q", body, e, want)
		}
	}
}

func TestOnlyAnErrorOfAnAnswerNamesACode(t *testing.T) {
	for body, want := range map[string]string{
		`{"error":{"code":400,"message":"x"}}`:                                "400",
		`{"error":{"code":7,"type":"Odd","message":"x"}}`:                     "Odd", // words before figures
		`{"request":{"grant":"invalid_grant"}}`:                               "",
		`{"message":"not an invalid_grant, though"}`:                          "",
		`{"message":"Invalid grant"}`:                                         "",
		`{"error":{"code":400,"detail":"for people"}}`:                        "400",
		`{"error":{"detail":"word"}}`:                                         "",
		`{"code":400}`:                                                        "",
		`{"errors":[]}`:                                                       "",
		`{"errors":[[[[[[[[["invalid_grant"]]]]]]]]]}`:                        "",
		`{"errors":[{"code":"` + canaryRefresh + `"}]}`:                       "", // the token itself
		`{"errors":[{"message":"` + canaryRefresh + `"}]}`:                    "",
		`{"error":{"errors":[{"reason":"bad:` + canaryRefresh + `"}]}}`:       "",
		`{"errors":[` + strings.Repeat(`"a",`, 999) + `"invalid_token_"]}`:    "a",
		`{"errors":[{"code":"some_code","message":"` + canarySecret + `"}]} `: "some_code",
	} {
		_, err := Classify(Profile{}, Answer{Status: 400, Body: []byte(body)}, canaryRefresh, canarySecret)
		e := asError(t, err)
		if e.Class != Refused || e.Code != want || strings.Contains(everyWay(e), "CANARY") {
			t.Errorf("%s: got %v, want code %q", body, e, want)
		}
	}
	// A server that stumbles may have spent the token, whatever it tells, and wherever.
	_, err := Classify(Profile{}, Answer{Status: 500, Body: []byte(`{"errors":[{"errorType":"invalid_grant"}]}`)})
	if e := asError(t, err); e.Class != Ambiguous {
		t.Errorf("a 500: %v", e)
	}
	// A 401 that names an error below the top is about that, too.
	_, err = Classify(Profile{}, Answer{Status: 401, Body: []byte(`{"errors":[{"errorType":"expired_token"}]}`)})
	if e := asError(t, err); e.Class != Refused {
		t.Errorf("a 401: %v", e)
	}
}
