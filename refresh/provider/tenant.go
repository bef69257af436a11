package provider

import (
	"errors"
	"strings"
)

// tenantMark stands for the grant's tenant in what a mint sends.
const tenantMark = "{tenant}"

// sampleTenant stands for a tenant while a configuration is checked.
func sampleTenant(hosts []string) string {
	if len(hosts) > 0 && !strings.HasPrefix(hosts[0], ".") {
		return hosts[0]
	}
	if len(hosts) > 0 {
		return "tenant" + hosts[0]
	}
	return "tenant"
}

var errNoTenant = errors.New("the grant names no tenant, for which {tenant} stands in the request")

func hasTenantMark(s string) bool { return strings.Contains(s, tenantMark) }
