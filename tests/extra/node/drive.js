// Drives a simulator through the official SDK; prints what it saw as one JSON object.
// PLUGGY_API_URL is the only way to point the SDK somewhere else.
import { PluggyClient } from 'pluggy-sdk'

const [itemId, accountId, cardId] = process.argv.slice(2)
const client = new PluggyClient({
  clientId: '3fa85f64-5717-4562-b3fc-2c963f66afa6',
  clientSecret: 'any',
})
const control = (path, body) =>
  fetch(`${process.env.PLUGGY_API_URL}/_simulator${path}`, {
    method: 'POST',
    body: JSON.stringify(body),
  })
const ids = rows => rows.map(row => row.id)

const seen = {}

const { accessToken } = await client.createConnectToken(undefined, { clientUserId: 'node' })
seen.connectToken = accessToken.split('.').length

const connectors = await client.fetchConnectors({ sandbox: true })
seen.connectors = ids(connectors.results)
seen.connector = (await client.fetchConnector(2)).name
const categories = await client.fetchCategories()
seen.categories = categories.results.length
seen.category = (await client.fetchCategory('01010000')).description

const item = await client.fetchItem(itemId)
seen.item = item.id
seen.itemDatesAreDates = item.createdAt instanceof Date && item.lastUpdatedAt instanceof Date
const accounts = await client.fetchAccounts(itemId)
seen.accounts = ids(accounts.results)
seen.account = (await client.fetchAccount(accountId)).id
const transactions = await client.fetchAllTransactions(accountId)
seen.transactions = ids(transactions)
seen.transactionDatesAreDates = transactions.every(row => row.date instanceof Date)
const first = await client.fetchTransactionsCursor(accountId)
seen.firstPage = first.results.length
const some = ids(transactions.slice(0, 5))
seen.byIds = ids((await client.fetchTransactionsCursor(accountId, { ids: some })).results)
seen.byIdsWanted = some
seen.transaction = (await client.fetchTransaction(some[0])).id
seen.category_changed = (await client.updateTransactionCategory(some[0], '13000000')).category

const investments = await client.fetchInvestments(itemId)
seen.investments = ids(investments.results)
seen.investment = (await client.fetchInvestment(investments.results[0].id)).id
seen.movements = []
for (const { id } of investments.results) {
  seen.movements.push(...ids(await client.fetchAllInvestmentTransactions(id)))
}
const loans = await client.fetchLoans(itemId)
seen.loans = ids(loans.results)
seen.loan = (await client.fetchLoan(loans.results[0].id)).id
const identity = await client.fetchIdentityByItemId(itemId)
seen.identity = identity.id
seen.identityAgain = (await client.fetchIdentity(identity.id)).id
const consents = await client.fetchConsents(itemId)
seen.consents = ids(consents.results)
seen.consent = (await client.fetchConsent(consents.results[0].id)).id
const bills = await client.fetchCreditCardBills(cardId)
seen.bills = ids(bills.results)
seen.bill = (await client.fetchCreditCardBill(bills.results[0].id)).id

const hook = await client.createWebhook('item/created', 'https://example.com/a', { 'X-A': '1' })
const listed = await client.fetchWebhooks()
seen.webhooks = ids(listed.results)
seen.webhook = (await client.fetchWebhook(hook.id)).id
const changed = await client.updateWebhook(hook.id, {
  event: 'all',
  url: 'https://example.com/b',
})
seen.webhookChanged = [changed.event, changed.url]
await client.deleteWebhook(hook.id)
seen.webhooksLeft = (await client.fetchWebhooks()).results.length

const parameters = { user: 'user-ok', password: 'password-ok' }
const created = await client.createItem(1, parameters, { clientUserId: 'node' })
seen.created = created.executionStatus
await control('/clock', { advance: 5 })
seen.asked = (await client.fetchItem(created.id)).parameter.name
seen.answered = (await client.updateItemMFA(created.id, { token: '123456' })).status
await control('/clock', { advance: 60 })
seen.collected = (await client.fetchItem(created.id)).status
seen.updating = (await client.updateItem(created.id)).status
await client.deleteItem(created.id)
seen.refusal = await client.fetchItem(created.id).catch(body => body.codeDescription)

console.log(JSON.stringify(seen))
