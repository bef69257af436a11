package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// What servers and proxies say, and what an operator is to do about it; nothing where it heals by itself.
func TestEachErrorOfAnUnfitRedisSaysWhatIsToBeDone(t *testing.T) {
	t.Parallel()
	for text, todo := range map[string]string{
		"NOPERM this user has no permissions to run the 'time' command":                                  todoRights,
		"ERR The user has no permissions to access one of the keys":                                      todoRights,
		"NOAUTH Authentication required.":                                                                todoLogin,
		"WRONGPASS invalid username-password pair or user is disabled.":                                  todoLogin,
		"ERR invalid password":                                                                           todoLogin,
		"ERR AUTH <password> called without any password configured for the default user. Are you sure?": todoLogin,
		"ERR HELLO must be called with the client already authenticated, otherwise give the AUTH option": todoLogin,
		"ERR unknown command 'EVALSHA', with args beginning with: ":                                      todoProxy,
		"ERR unknown subcommand 'INFO'. Try CLIENT HELP.":                                                todoProxy,
		"ERR This Redis command is not allowed from script":                                              todoProxy,
		"ERR syntax error": todoVersion,
		"ERR wrong number of arguments for 'expire' command":                                                todoVersion,
		"ERR Unexpected engine in script shebang: lua":                                                      todoVersion,
		"ERR This instance has cluster support disabled":                                                    TodoSingle,
		"READONLY You can't write against a read only replica.":                                             "",
		"LOADING Redis is loading the dataset in memory":                                                    "",
		"OOM command not allowed when used memory > 'maxmemory'.":                                           "",
		"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.":                  "",
		"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.":            "",
		"MISCONF Redis is configured to save RDB snapshots, but it is currently unable to persist to disk.": "",
		"CLUSTERDOWN The cluster is down":                                                                   "",
		"NOSCRIPT No matching script. Please use EVAL.":                                                     "",
		"WRONGTYPE Operation against a key holding the wrong kind of value":                                 "",
	} {
		err := Unfit(fmt.Errorf("tokencache: read: %w", answered(text)))
		switch {
		case todo == "" && err != nil:
			t.Errorf("%q: the operator is bothered with it: %v", text, err)
		case todo != "" && (!errors.Is(err, grant.ErrUnfit) || !strings.Contains(err.Error(), todo) || !strings.Contains(err.Error(), text)):
			t.Errorf("%q: %v, want: %s", text, err, todo)
		}
		if err := Unfit(errors.New(text)); err != nil {
			t.Errorf("%q, which no Redis has said: %v", text, err)
		}
	}
}

// answered is an error that a Redis has answered.
type answered string

func (a answered) Error() string { return string(a) }

func (a answered) RedisError() {}
