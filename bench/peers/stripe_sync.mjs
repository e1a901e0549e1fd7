// The program that drives @supabase/stripe-sync-engine, run by Node in a folder that has it installed.
//
// `stripe_sync.mjs URL BODIES SECONDS CONNECTIONS` makes its tables by its own migrations, then hands webhooks to
// `processWebhook` in this process, so many at once, and prints what it did. Its documented settings are left alone but
// for what would ask Stripe's API: related entities and long lists are not fetched.
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { createRequire } from 'node:module'
import { join } from 'node:path'

const require = createRequire(join(process.cwd(), 'package.json'))
const { StripeSync, runMigrations } = require('@supabase/stripe-sync-engine')
const Stripe = require('stripe')

const [databaseUrl, file, seconds, connections] = process.argv.slice(2)
const secret = 'whsec_bench'
await runMigrations({ databaseUrl, schema: 'stripe' })
const sync = new StripeSync({
  poolConfig: { connectionString: databaseUrl, max: 10 },
  schema: 'stripe',
  stripeSecretKey: 'sk_test_bench',
  stripeWebhookSecret: secret,
  backfillRelatedEntities: false,
  autoExpandLists: false,
})
const stripe = new Stripe('sk_test_bench')
const bodies = readFileSync(file, 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line))
const webhooks = bodies.map((payload) => [payload, stripe.webhooks.generateTestHeaderString({ payload, secret })])

async function send(some, deadline) {
  const latencies = []
  const failures = {}
  let next = 0
  const caller = async () => {
    while (next < some.length && performance.now() < deadline) {
      const [payload, signature] = some[next++]
      const began = performance.now()
      try {
        await sync.processWebhook(Buffer.from(payload), signature)
        latencies.push((performance.now() - began) / 1000)
      } catch (error) {
        failures[error.message] = (failures[error.message] ?? 0) + 1
      }
    }
  }
  const began = performance.now()
  await Promise.all(Array.from({ length: Number(connections) }, caller))
  return { seconds: (performance.now() - began) / 1000, latencies, failures }
}

const warm = Math.floor(webhooks.length / 10)
await send(webhooks.slice(0, warm), Infinity)
console.log('ready')
for await (const _ of createInterface({ input: process.stdin })) break
// To a pipe it is written in pieces: ending before the last one has gone would cut it off.
const said = JSON.stringify(await send(webhooks.slice(warm), performance.now() + seconds * 1000))
process.stdout.write(said + '\n', () => process.exit(0))
