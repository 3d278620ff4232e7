/** The cgroupfs driver, which needs containerd and limpet to be told of it. */
import { clear, type Board } from '../board.ts';
import { until } from '../../../scripts/lib/install-limpet.ts';
import type { Cases } from './case.ts';
import { cgroups } from './contents.ts';

const UNIT = '/etc/systemd/system/limpet.service.d';

async function switchTo(board: Board, systemd: boolean): Promise<void> {
  const [from, to] = systemd ? ['false', 'true'] : ['true', 'false'];
  const dropIn = '[Service]\nExecStart=\nExecStart=/usr/bin/limpet run --cgroup-driver cgroupfs\n';
  await board.sh('systemctl stop limpet');
  if (systemd) await board.sh(`rm -r ${UNIT}`);
  else await board.tell(`mkdir -p ${UNIT} && cat > ${UNIT}/driver.conf`, dropIn);
  await board.sh(
    `sed -i 's/SystemdCgroup = ${from}/SystemdCgroup = ${to}/' /etc/containerd/config.toml && ` +
      'systemctl daemon-reload && systemctl restart containerd && systemctl start limpet',
  );
  await until(
    'limpet uses the driver',
    () => board.status().catch(() => undefined),
    (status) =>
      status?.runtime.connected === true &&
      status.cgroupDriver === (systemd ? 'systemd' : 'cgroupfs'),
    { timeoutMs: 120_000, everyMs: 1000 },
  );
}

async function otherDriver(board: Board): Promise<void> {
  await switchTo(board, false);
  try {
    await cgroups(board);
    await clear(board);
    await board.sh('test -z "$(find /sys/fs/cgroup/kubepods -name "pod*" -type d)"');
  } finally {
    await switchTo(board, true);
  }
}

export const otherDriverCases: Cases = { 'cgroups by the cgroupfs driver': otherDriver };
