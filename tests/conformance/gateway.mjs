// The gateway as a child process, started on a port of its own.

import { spawn } from 'node:child_process';
import path from 'node:path';

export const GATEWAY = process.env.SEKUIRE_GATEWAY && path.resolve(process.env.SEKUIRE_GATEWAY);
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Gateway {
  static running = new Set();

  static async start(policy, upstream, ...flags) {
    const gateway = new Gateway();
    const args = ['serve', '--policy', policy, '--listen', '127.0.0.1:0', '--upstream', upstream, ...flags];
    gateway.stdout = '';
    gateway.stderr = '';
    gateway.child = spawn(GATEWAY, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    Gateway.running.add(gateway);
    gateway.child.stdout.setEncoding('utf8').on('data', (text) => (gateway.stdout += text));
    gateway.child.stderr.setEncoding('utf8').on('data', (text) => (gateway.stderr += text));
    gateway.exit = new Promise((resolve) => {
      gateway.child.once('error', (error) => resolve({ error }));
      gateway.child.once('exit', (code, signal) => resolve({ code, signal }));
    });

    let gone;
    gateway.exit.then((how) => {
      gone = how;
      Gateway.running.delete(gateway);
    });
    for (let waited = 0; waited < 10_000; waited += 20) {
      const line = /^listening on (http:\/\/\S+)\n/.exec(gateway.stdout);
      if (line) {
        gateway.url = line[1];
        return gateway;
      }
      if (gone) break;
      await sleep(20);
    }
    gateway.kill();
    const why = gone ? `ended (${gone.error?.message ?? `exit ${gone.code ?? gone.signal}`})` : 'said nothing';
    throw new Error(`the gateway ${why} before it listened\nstdout: ${gateway.stdout}\nstderr: ${gateway.stderr}`);
  }

  async stop() {
    this.child.kill('SIGTERM');
    return Promise.race([this.exit, sleep(5_000).then(() => ({ timeout: true }))]);
  }

  kill() {
    this.child.kill('SIGKILL');
  }
}
