package observe

// The labels of [Served], [Takeovers], [Saves] and [Rejects].
const (
	FromMemory  = "memory"
	FromRedis   = "redis"
	FromRefresh = "refresh"

	Recovered = "recovered"
	ByOthers  = "adopted"
	Lost      = "lost"
	Failed    = "failed"

	LateCommit    = "late_commit"
	Spare         = "spare"
	Restore       = "restore"
	Takeover      = "takeover"
	SecondOpinion = "second_opinion"

	Forced   = "forced"
	Newer    = "newer"
	Suspect  = "suspect"
	External = "external"
)

// codes are those that Code leaves as they are.
var codes = map[string]bool{}

func init() {
	for _, code := range []string{
		// RFC 6749 §5.2, RFC 8628 §3.5, OpenID Connect Core §3.1.2.6, RFC 6750 §3.1, RFC 9449 §5
		"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "invalid_scope",
		"slow_down", "temporarily_unavailable", "server_error", "invalid_token", "access_denied", "interaction_required",
		"login_required", "consent_required", "account_selection_required", "use_dpop_nonce", "invalid_dpop_proof",
		// of this library
		"budget", "closed", "damaged_record", "disconnected", "exchanger_hangs", "external_rotation", "lease_held", "lost_response",
		"mass_death", "newer_version", "no_access_token", "not_replicated", "panic", "paused", "redis", "redis_lost_data",
		"redis_readonly", "redis_unfit", "refresh_token_expired", "refused_for_long", "sealed", "short_lived", "slow_exchange",
		"suspect", "throttled", "token_url", "unreadable_answer", "unresolved_claim", "unusable_access_token",
	} {
		codes[code] = true
	}
}

// Code is a code of an error as observers get it: providers may send anything, so that codes that are not known here
// are "other". Empty stays empty.
func Code(code string) string {
	if code == "" || codes[code] {
		return code
	}
	return "other"
}
