# Every documented example line as printed, addresses on loopback. One script, one shell.

# ---- Multi-node configuration: connect to all managers
Connect-DkvManager -Managers 127.0.0.11:7801,127.0.0.12:7801

# ---- New-DkvStore, example 1: one node per server
Connect-DkvManager -Managers 127.0.0.11,127.0.0.12

New-DkvStore `
-Name OrdersStore `
-InstancePrefix orders

# ---- Start-DkvStore, examples 1 to 6
Start-DkvStore -Name OrdersStore

Start-DkvStore -Name OrdersStore -InstanceName orders-1

Connect-DkvManager -Managers 127.0.0.11,127.0.0.12
Start-DkvStore -Name OrdersStore

Start-DkvStore `
-Name OrdersStore `
-Managers 127.0.0.11,127.0.0.12

Start-DkvStore `
-Name OrdersStore `
-Managers 127.0.0.11,127.0.0.12,127.0.0.13 `
-Parallel

Start-DkvStore `
-Name OrdersStore `
-FailFast

# ---- Stop-DkvStore, examples 1 to 7
Stop-DkvStore -Name OrdersStore

Stop-DkvStore -Name OrdersStore -InstanceName orders-1

Stop-DkvStore -Name OrdersStore -InstanceName orders-1 -Force

Connect-DkvManager -Managers 127.0.0.11,127.0.0.12
Stop-DkvStore -Name OrdersStore

Stop-DkvStore `
-Name OrdersStore `
-Managers 127.0.0.11,127.0.0.12

Stop-DkvStore `
-Name OrdersStore `
-Managers 127.0.0.11,127.0.0.12,127.0.0.13 `
-Parallel

Stop-DkvStore `
-Name OrdersStore `
-FailFast

Remove-DkvStore OrdersStore

# ---- New-DkvStore, examples 2 to 4 (the second and third find what the first made)
New-DkvStore `
-Name OrdersStore `
-InstancePrefix orders `
-InstanceCount 2

New-DkvStore `
-Name OrdersStore `
-InstancePrefix orders `
-InstanceCount 2 `
-Parallel

New-DkvStore `
-Name OrdersStore `
-InstancePrefix orders `
-InstanceCount 2 `
-FailFast

Remove-DkvStore OrdersStore

# ---- Multi-node configuration: several machines, then a single machine
New-DkvStore `
-Name TestStore `
-InstancePrefix node `
-InstanceCount 1 `
-ClustronPort 7811 `
-ClientPort 7861

Get-DkvStore TestStore
Remove-DkvStore TestStore

Connect-DkvManager -Managers 127.0.0.11 -Force

New-DkvStore `
-Name TestStore `
-InstancePrefix node `
-InstanceCount 2 `
-ClustronPort 7811 `
-ClientPort 7861

Start-DkvStore TestStore
Get-DkvStore
Stop-DkvStore TestStore
Remove-DkvStore TestStore
